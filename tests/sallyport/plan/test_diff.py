"""Two plans are compared by requests that are answered differently, and every class of them has a witness."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sallyport.plan import diff as module
from sallyport.plan.codec import parse_plan, seal
from sallyport.plan.diff import PlanDiff, diff_plans
from sallyport.plan.explain import explain
from sallyport.plan.model import CompiledRuntimePlan
from tests.support.plan_documents import plan_document, plan_of, route_document, rule_document

HOST = "api.example.com"


def route(rule_id: str = "route", /, **fields: object) -> dict[str, object]:
    return route_document(rule_id, **fields)


def told(diff: PlanDiff) -> list[tuple[str, tuple[str, ...], str | None, str | None]]:
    return [
        (change.requests[0], tuple(change.changed), change.before.egress_rule_id, change.after.egress_rule_id)
        for change in diff.changes
    ]


def test_a_plan_does_not_differ_from_itself() -> None:
    plan = plan_of([route()], [rule_document("r", "deny", "*", methods=["PUT"])])
    diff = diff_plans(plan, plan)
    assert (diff.changes, diff.parts, diff.is_complete) == ([], {}, True)
    assert diff.asked > 0


def test_a_new_route_is_told_by_what_it_claims() -> None:
    match = {"hosts": [HOST], "pathPrefixes": ["/v1"], "methods": ["POST"]}
    diff = diff_plans(plan_of(default="deny"), plan_of([route(match=match)], default="deny"))
    assert told(diff) == [
        (f"POST http://{HOST}/", ("managed",), None, None),
        (f"POST http://{HOST}/v1", ("code", "managed"), None, "route"),
        (f"POST https://{HOST}/v1", ("decision", "code", "managed"), None, "route"),
    ]
    [change] = [change for change in diff.changes if change.after.effect.decision == "inject"]
    assert change.to_document() == {
        "requests": [f"POST https://{HOST}/v1"],
        "count": 1,
        "changed": ["decision", "code", "managed"],
        "before": {
            "decision": "deny",
            "code": "denied_by_plan",
            "managed": False,
            "reason": "no route and no rule of the plan claims this, and it denies by default",
        },
        "after": {
            "decision": "inject",
            "managed": True,
            "reason": "a route claims this",
            "egressRuleId": "route",
            "connectionId": "con_one",
        },
    }


@pytest.mark.parametrize(
    ("fields", "changed"),
    [
        ({"authInjection": {"type": "basic", "username": "x"}}, ("authInjection",)),
        (
            {
                "credentialResolver": {
                    "kind": "integration_connection",
                    "connectionId": "con_two",
                    "secretType": "api_key",
                }
            },
            ("credentialResolver",),
        ),
        ({"upstream": {"baseUrl": "https://b.example"}}, ("upstream",)),
        ({"limits": {"maxConcurrent": 1}, "stripQuery": ["key"]}, ("limits", "stripQuery")),
    ],
)
def test_what_a_route_does_is_compared(fields: dict[str, object], changed: tuple[str, ...]) -> None:
    diff = diff_plans(plan_of([route()]), plan_of([route(**fields)]))
    assert told(diff) == [(f"GET https://{HOST}/", changed, "route", "route")]


def test_what_a_route_is_called_is_not() -> None:
    renamed = route("other", bindingId="bnd_two", familyId="f", variantId="v")
    assert diff_plans(plan_of([route()]), plan_of([renamed])).changes == []


def test_rules_wildcards_ports_and_the_default_have_their_witnesses() -> None:
    before = plan_of(
        [route(match={"hosts": ["*.example.com"], "ports": [443, 8443]})],
        [rule_document("no", "deny", "*", ports=[22])],
        default="deny",
    )
    after = plan_of([], [rule_document("no", "deny", HOST), rule_document("yes", "allow", "*")])
    shown = [request for change in diff_plans(before, after).changes for request in change.requests]
    assert "GET https://any.example.com:8443/" in shown
    assert "GET https://any.invalid/" in shown
    assert "GET https://any.example.com:8444/" in shown, "a port that neither plan lists"
    assert "GET https://any.invalid:22/" in shown
    changes = diff_plans(plan_of(), plan_of(default="deny")).changes
    assert [(change.count, list(change.changed)) for change in changes] == [(4, ["decision", "code"])]


def test_an_unlisted_method_has_its_witness_whatever_is_listed() -> None:
    every = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
    before = plan_of([route(match={"hosts": [HOST], "methods": every})])
    after = plan_of([route(match={"hosts": [HOST]})])
    changes = diff_plans(before, after).changes
    assert ["ANY https://api.example.com/"] in [list(change.requests) for change in changes]


def test_what_is_not_egress_is_told_by_its_key() -> None:
    def artifact(key: str, name: str = "x") -> dict[str, object]:
        return {"artifactKey": key, "name": name, "lifecycle": {"install": []}}

    def plan(image: str, *artifacts: object) -> CompiledRuntimePlan:
        ref = {"source": "base", "imageRef": image}
        return parse_plan(seal(plan_document(image=ref, artifacts=list(artifacts))))

    diff = diff_plans(plan("a", artifact("kept"), artifact("gone"), artifact("other")), plan("a", artifact("kept")))
    assert diff.parts == {"artifacts": {"removed": ["gone", "other"]}}
    diff = diff_plans(plan("a", artifact("one")), plan("b", artifact("one", "y"), artifact("two")))
    assert diff.to_document()["parts"] == {
        "artifacts": {"added": ["two"], "changed": ["one"]},
        "image": {"changed": ["image"]},
    }


def test_variables_are_compared_with_the_rest() -> None:
    def plan(value: str) -> CompiledRuntimePlan:
        artifact = {"artifactKey": "one", "name": "x", "env": {"NAME": value}, "lifecycle": {"install": []}}
        return parse_plan(seal(plan_document(artifacts=[artifact])))

    assert diff_plans(plan("a"), plan("a")).parts == {}
    assert diff_plans(plan("a"), plan("b")).parts == {"artifacts": {"changed": ["one"]}}


def test_more_classes_than_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, other = plan_of([route()]), plan_of([])
    monkeypatch.setattr(module, "MAX_ASKED", 2)
    diff = diff_plans(plan, other)
    assert (diff.asked, diff.is_complete) == (2, False)
    monkeypatch.undo()
    monkeypatch.setattr(module, "MAX_CHANGES", 1)
    diff = diff_plans(plan, other)
    assert (len(diff.changes), diff.is_complete) == (1, False)


def test_examples_are_few_and_all_are_counted() -> None:
    prefixes = [f"/v{number}" for number in range(9)]
    after = plan_of([route(match={"hosts": [HOST], "pathPrefixes": prefixes})])
    [change] = [each for each in diff_plans(plan_of(), after).changes if each.after.effect.decision == "inject"]
    assert (len(change.requests), change.count) == (5, 9)


hosts = st.sampled_from(["a.test", "b.a.test", "*.test", "*.a.test"])
claims = st.fixed_dictionaries(
    {"hosts": st.lists(hosts, min_size=1, max_size=2, unique=True)},
    optional={
        "ports": st.lists(st.sampled_from([443, 80, 9000]), min_size=1, max_size=2, unique=True),
        "methods": st.lists(st.sampled_from(["GET", "PUT"]), min_size=1, max_size=2, unique=True),
        "pathPrefixes": st.lists(st.sampled_from(["/", "/x", "/x/y"]), min_size=1, max_size=2, unique=True),
    },
)
plans = st.builds(
    lambda claim, rule, action, default: plan_of(
        [route(match=claim)], [{"ruleId": "rule", "action": action, **rule}], default=default
    ),
    claims,
    claims,
    st.sampled_from(["allow", "deny"]),
    st.sampled_from(["passthrough", "deny"]),
)
requests = st.tuples(
    st.sampled_from(["GET", "PUT", "POST"]),
    st.sampled_from(["http", "https"]),
    st.sampled_from(["a.test", "b.a.test", "c.a.test", "d.test", "other.example"]),
    st.sampled_from(["", ":80", ":443", ":9000", ":1234"]),
    st.sampled_from(["/", "/x", "/x/y", "/x/y/z", "/q"]),
)


@given(plans, plans, st.lists(requests, max_size=20))
def test_no_request_changes_that_no_witness_shows(
    before: CompiledRuntimePlan, after: CompiledRuntimePlan, asked: list[tuple[str, str, str, str, str]]
) -> None:
    """Any request at all that is answered differently belongs to a change of the diff."""
    known = {
        tuple((each.effect.decision, each.egress_rule_id) for each in (change.before, change.after))
        for change in diff_plans(before, after).changes
    }
    for method, scheme, host, port, path in asked:
        was, is_now = (explain(plan, method, f"{scheme}://{host}{port}{path}") for plan in (before, after))
        if (was.decision, was.code) != (is_now.decision, is_now.code):
            pair = tuple((each.decision.value, each.egress_rule_id) for each in (was, is_now))
            assert pair in known, (method, scheme, host, port, path)
