import json

import pytest

from sallyport.plan.explain import MAX_COMPARED_ROUTES, explain, nearest
from sallyport.plan.match import AnswerKind
from sallyport.plan.model import CompiledRuntimePlan
from tests.support.plan_documents import plan_of, route_document, rule_document

HOST = "api.example.com"


@pytest.fixture(name="plan")
def plan_fixture() -> CompiledRuntimePlan:
    return plan_of(
        [
            route_document("v1", match={"hosts": [HOST], "pathPrefixes": ["/v1"], "methods": ["GET"]}),
            route_document(
                "moved",
                match={"hosts": ["old.test"], "ports": [8443]},
                upstream={"baseUrl": "https://new.test:9443"},
            ),
            route_document("clear", match={"hosts": ["clear.test"]}, allowCleartext=True),
        ],
        [rule_document("no", "deny", "no.test", reason="closed"), rule_document("yes", "allow", "yes.test")],
        default="deny",
    )


@pytest.mark.parametrize(
    ("url", "decision", "code", "rule_id", "sent"),
    [
        ("https://api.example.com/v1/%61?a=/..", "inject", "", "v1", "https://api.example.com/v1/a?a=/.."),
        ("https://API.example.com.:0443/v1?", "inject", "", "v1", "https://api.example.com/v1?"),
        ("https://old.test:8443", "inject", "", "moved", "https://new.test:9443/"),
        ("http://clear.test/x", "inject", "", "clear", "http://clear.test/x"),
        ("http://api.example.com/v1", "deny", "cleartext_refused", "v1", None),
        ("https://no.test/", "deny", "denied_by_plan", "no", None),
        ("http://yes.test/a/../b", "forward", "", "yes", "http://yes.test/a/../b"),
        ("https://other.test/", "deny", "denied_by_plan", None, None),
        ("https://api.example.com/v1/../admin", "refuse", "invalid_request", None, None),
        ("https://api.example.com/v1%2Fx", "refuse", "invalid_request", None, None),
        ("https://127.1/", "refuse", "invalid_request", None, None),
        ("https://u:p@api.example.com/v1", "refuse", "invalid_request", None, None),
        ("not a url", "refuse", "invalid_request", None, None),
    ],
)
def test_a_request_is_explained(
    plan: CompiledRuntimePlan, url: str, decision: str, code: str, rule_id: str | None, sent: str | None
) -> None:
    said = explain(plan, "GET", url)
    assert (said.decision.value, said.code, said.egress_rule_id, said.sent_url) == (decision, code, rule_id, sent)
    assert said.reason
    document = said.to_document()
    assert json.loads(json.dumps(document)) == document
    assert None not in document.values()
    assert "" not in document.values()


def test_a_bad_method_is_explained(plan: CompiledRuntimePlan) -> None:
    said = explain(plan, "GE T", f"https://{HOST}/v1")
    assert (said.decision, said.managed) == (AnswerKind.REFUSE, True)
    assert "token" in said.reason
    assert explain(plan, "get", f"https://{HOST}/v1").hint == "write the method in upper case"


def test_an_injected_request_has_no_nearest_route_and_any_other_has(plan: CompiledRuntimePlan) -> None:
    assert explain(plan, "GET", f"https://{HOST}/v1").nearest is None
    said = explain(plan, "PUT", f"https://{HOST}/v1").to_document()
    assert said["nearest"] == {"egressRuleId": "v1", "mismatch": ["method"], "expected": {"method": ["GET"]}}
    assert said["managed"] is True


@pytest.mark.parametrize(
    ("request_parts", "rule_id", "expected"),
    [
        (("https", HOST, 443, "GET", "/v2"), "v1", {"path": ["/v1"]}),
        (("https", HOST, 443, "GET", "/v1evil"), "v1", {"path": ["/v1"]}),
        (("https", HOST, 8443, "GET", "/v1"), "v1", {"port": "the scheme's default port"}),
        (("https", "old.test", 443, "GET", "/"), "moved", {"port": [8443]}),
        (("http", HOST, 80, "GET", "/v1/x"), "v1", {"scheme": "https"}),
        (("https", "apj.example.com", 443, "GET", "/v1"), "v1", {"host": [HOST]}),
        (
            ("http", HOST, 8080, "PUT", "/"),
            "v1",
            {"port": "the scheme's default port", "path": ["/v1"], "method": ["GET"], "scheme": "https"},
        ),
        (("https", HOST, 443, "GET", "/v1/x"), "v1", {}),
    ],
)
def test_the_nearest_route_and_what_did_not_match(
    plan: CompiledRuntimePlan, request_parts: tuple[str, str, int, str, str], rule_id: str, expected: dict[str, object]
) -> None:
    assert nearest(plan, *request_parts) == {
        "egressRuleId": rule_id,
        "mismatch": list(expected),
        "expected": expected,
    }


def test_what_nobody_has_seen_mismatches_with_nothing(plan: CompiledRuntimePlan) -> None:
    closest = nearest(plan, "https", HOST, 8443, None, None)
    assert closest is not None
    assert closest["mismatch"] == ["port"]


def test_of_many_routes_the_first_of_the_host_are_compared() -> None:
    others = [route_document(f"r{n}", match={"hosts": [f"h{n}.test"]}) for n in range(MAX_COMPARED_ROUTES)]
    plan = plan_of([*others, route_document("last", match={"hosts": [HOST], "methods": ["GET"]})])
    assert (nearest(plan, "https", HOST, 443, "PUT", "/") or {})["egressRuleId"] == "last"
    assert (nearest(plan, "https", f"x.{HOST}", 443, "GET", "/") or {})["egressRuleId"] == "r0"


def test_among_equals_the_nearest_shares_most_of_the_host_and_the_path() -> None:
    plan = plan_of(
        [
            route_document("far", match={"hosts": ["api.other.test"], "pathPrefixes": ["/a/b/c"]}),
            route_document("host", match={"hosts": ["*.example.com"], "pathPrefixes": ["/x"]}),
            route_document("path", match={"hosts": [HOST], "pathPrefixes": ["/a/b"]}),
            route_document("paths", match={"hosts": [HOST], "pathPrefixes": ["/z", "/a/c"]}),
        ]
    )
    closest = {
        path: nearest(plan, "https", HOST, 443, "GET", path) or {} for path in ("/a/b2/x", "/a/c2", "/q", "/a/b/c")
    }
    assert closest["/a/b2/x"]["egressRuleId"] == "path"
    assert closest["/q"]["egressRuleId"] == "path"
    assert closest["/a/b/c"]["mismatch"] == []
    assert (nearest(plan, "https", "www.example.com", 443, "GET", "/a/b") or {})["egressRuleId"] == "host"


def test_long_lists_are_shown_in_part() -> None:
    plan = plan_of([route_document(match={"hosts": [f"h{n}.test" for n in range(20)]})])
    closest = nearest(plan, "https", HOST, 443, "GET", "/")
    assert closest is not None
    assert closest["expected"] == {"host": [f"h{n}.test" for n in range(8)]}


def test_a_plan_without_routes_has_no_nearest_one() -> None:
    assert nearest(plan_of(), "https", HOST, 443, "GET", "/") is None
    assert "nearest" not in explain(plan_of(), "GET", f"https://{HOST}/").to_document()
