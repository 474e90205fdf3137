from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sallyport.plan.match import EVERY_PORT, MAX_REMEMBERED_HOSTS, Answer, AnswerKind, Matcher
from sallyport.request_path import canonical_path
from tests.support.plan_documents import plan_of, route_document, rule_document

HOST = "api.example.com"
VECTOR_MATCH = {"hosts": [HOST], "pathPrefixes": ["/v1"], "methods": ["GET"]}


def decide(
    matcher: Matcher, method: str, path: str, *, scheme: str = "https", host: str = HOST, port: int = 443
) -> Answer:
    return matcher.for_host(scheme, host, port).decide(method, canonical_path(path.encode()))


def who(answer: Answer) -> str:
    return answer.egress_rule_id or answer.kind.value


# --- the vectors of contracts section 1 -------------------------------------------------------------------------------


@pytest.fixture(name="vectors")
def vectors_fixture() -> Matcher:
    return Matcher(plan_of([route_document("route", match=VECTOR_MATCH)]))


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("GET", "/v1", AnswerKind.INJECT),
        ("GET", "/v1/", AnswerKind.INJECT),
        ("GET", "/v1/x", AnswerKind.INJECT),
        ("GET", "/v1/%61bc", AnswerKind.INJECT),
        pytest.param("GET", "/v10/x", AnswerKind.FORWARD, id="P8-prefix-boundary"),
        pytest.param("GET", "/v1evil", AnswerKind.FORWARD, id="P8-evil"),
        pytest.param("GET", "//v1/x", AnswerKind.FORWARD, id="P2-empty-segment"),
        pytest.param("GET", "/v1;x", AnswerKind.FORWARD, id="P4-parameters"),
        ("GET", "/V1/x", AnswerKind.FORWARD),
        ("GET", "/", AnswerKind.FORWARD),
        ("POST", "/v1", AnswerKind.FORWARD),
        ("get", "/v1", AnswerKind.REFUSE),
        ("Get", "/v1/x", AnswerKind.REFUSE),
        ("get", "/v2", AnswerKind.FORWARD),
    ],
)
def test_vectors_of_method_and_path(vectors: Matcher, method: str, path: str, kind: AnswerKind) -> None:
    assert decide(vectors, method, path).kind is kind


def test_a_lower_case_method_is_told_so(vectors: Matcher) -> None:
    answer = decide(vectors, "get", "/v1")
    assert (answer.code, answer.reason) == ("invalid_request", "methods are case-sensitive")
    assert "upper case" in answer.hint


def test_another_port_than_the_listed_one_gets_no_credential(vectors: Matcher) -> None:
    """H9: absent ports mean 443 for https and 80 for http, nothing else."""
    assert decide(vectors, "GET", "/v1", port=8443).kind is AnswerKind.FORWARD
    assert decide(vectors, "GET", "/v1", port=80).kind is AnswerKind.FORWARD
    assert decide(vectors, "GET", "/v1", scheme="http", port=443).kind is AnswerKind.FORWARD


def test_a_listed_port_is_claimed_and_the_default_no_longer() -> None:
    matcher = Matcher(plan_of([route_document(match={"hosts": [HOST], "ports": [8443]})]))
    assert decide(matcher, "GET", "/", port=8443).kind is AnswerKind.INJECT
    assert decide(matcher, "GET", "/").kind is AnswerKind.FORWARD


def test_cleartext_is_refused_unless_the_route_allows_it(vectors: Matcher) -> None:
    answer = decide(vectors, "GET", "/v1", scheme="http", port=80)
    assert (answer.kind, answer.code, who(answer)) == (AnswerKind.DENY, "cleartext_refused", "route")
    allowed = Matcher(plan_of([route_document(allowCleartext=True)]))
    assert decide(allowed, "GET", "/", scheme="http", port=80).kind is AnswerKind.INJECT


@pytest.mark.parametrize("host", ["api.example.com.evil.test", "evilapi.example.com", "example.com", "192.0.2.1"])
def test_suffix_tricks_reach_no_route(vectors: Matcher, host: str) -> None:
    """H2."""
    assert decide(vectors, "GET", "/v1", host=host).kind is AnswerKind.FORWARD


# --- precedence -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        pytest.param({"hosts": [HOST]}, {"hosts": ["*.example.com"]}, id="exact-over-wildcard"),
        pytest.param({"hosts": ["*.example.com"]}, {"hosts": ["*.com"]}, id="longer-over-shorter-wildcard"),
        pytest.param({"ports": [443]}, {}, id="listed-over-default-port"),
        pytest.param({"pathPrefixes": ["/v1/x"]}, {"pathPrefixes": ["/v1"]}, id="longer-over-shorter-prefix"),
        pytest.param({"pathPrefixes": ["/v1"]}, {"pathPrefixes": ["/"]}, id="prefix-over-root"),
        pytest.param({"methods": ["GET"]}, {}, id="listed-over-any-method"),
        pytest.param(
            {"hosts": [HOST]},
            {"hosts": ["*.example.com"], "ports": [443], "pathPrefixes": ["/v1/x"], "methods": ["GET"]},
            id="host-outweighs-all",
        ),
        pytest.param(
            {"ports": [443]}, {"pathPrefixes": ["/v1/x"], "methods": ["GET"]}, id="port-outweighs-prefix-and-method"
        ),
        pytest.param({"pathPrefixes": ["/v1/x"]}, {"methods": ["GET"]}, id="prefix-outweighs-method"),
        pytest.param(
            {"pathPrefixes": ["/v1/x"], "methods": ["POST", "GET"]},
            {"pathPrefixes": ["/v1/x"]},
            id="method-at-one-prefix",
        ),
    ],
)
def test_precedence(better: dict[str, object], worse: dict[str, object]) -> None:
    routes = [
        route_document("better", match={"hosts": [HOST], **better}),
        route_document("worse", match={"hosts": [HOST], **worse}),
    ]
    for order in (routes, routes[::-1]):
        assert who(decide(Matcher(plan_of(order)), "GET", "/v1/x/y")) == "better"


def test_a_more_specific_route_that_does_not_match_leaves_the_request_to_the_next() -> None:
    matcher = Matcher(
        plan_of(
            [
                route_document("exact", match={"hosts": [HOST], "pathPrefixes": ["/only"]}),
                route_document(
                    "deep", match={"hosts": ["*.example.com"], "pathPrefixes": ["/v1/x"], "methods": ["PUT"]}
                ),
                route_document("shallow", match={"hosts": ["*.example.com"], "pathPrefixes": ["/v1"]}),
            ]
        )
    )
    assert who(decide(matcher, "GET", "/only/x")) == "exact"
    assert who(decide(matcher, "PUT", "/v1/x")) == "deep"
    assert who(decide(matcher, "GET", "/v1/x")) == "shallow"
    assert who(decide(matcher, "GET", "/v2")) == "forward"


# --- order of decision ------------------------------------------------------------------------------------------------


def test_deny_rule_over_route_over_allow_rule_over_default() -> None:
    matcher = Matcher(
        plan_of(
            [route_document(match={"hosts": [HOST], "pathPrefixes": ["/v1"]})],
            [
                rule_document("deny", "deny", HOST, pathPrefixes=["/v1/admin"], reason="not for agents"),
                rule_document("allow", "allow", HOST, methods=["GET"]),
            ],
            default="deny",
        )
    )
    denied = decide(matcher, "GET", "/v1/admin/x")
    assert (who(denied), denied.kind, denied.code) == ("deny", AnswerKind.DENY, "denied_by_plan")
    assert denied.reason == "not for agents"
    assert who(decide(matcher, "GET", "/v1/x")) == "route"
    assert who(decide(matcher, "GET", "/v2")) == "allow"
    by_default = decide(matcher, "POST", "/v2")
    assert (who(by_default), by_default.code) == ("deny", "denied_by_plan")
    assert by_default.rule is None


def test_rules_have_the_precedence_of_routes() -> None:
    matcher = Matcher(
        plan_of(
            rules=[
                rule_document("all", "deny"),
                rule_document("host", "allow", HOST),
                rule_document("path", "deny", HOST, pathPrefixes=["/admin"]),
            ]
        )
    )
    assert who(decide(matcher, "GET", "/x")) == "host"
    assert who(decide(matcher, "GET", "/admin/x")) == "path"
    assert who(decide(matcher, "GET", "/x", host="other.test")) == "all"


@pytest.mark.parametrize("turn", [lambda rules: rules, lambda rules: rules[::-1]], ids=["deny-first", "allow-first"])
@pytest.mark.parametrize("fields", [{}, {"methods": ["GET"]}, {"pathPrefixes": ["/v1"]}])
def test_a_tie_of_allow_and_deny_is_deny(
    turn: Callable[[list[dict[str, object]]], list[dict[str, object]]], fields: dict[str, object]
) -> None:
    rules = turn([rule_document("no", "deny", HOST, **fields), rule_document("yes", "allow", HOST, **fields)])
    assert who(decide(Matcher(plan_of(rules=rules)), "GET", "/v1")) == "no"


def test_of_rules_that_tie_the_first_is_named() -> None:
    rules = [rule_document("one", "deny", HOST), rule_document("two", "deny", HOST)]
    assert who(decide(Matcher(plan_of(rules=rules)), "GET", "/")) == "one"


def test_a_rule_that_denies_the_whole_host_outweighs_its_routes() -> None:
    matcher = Matcher(plan_of([route_document()], [rule_document("all", "deny")]))
    assert who(decide(matcher, "GET", "/")) == "all"
    assert who(decide(matcher, "get", "/a%2Fb")) == "all"


def test_rules_without_ports_claim_every_port_and_listed_ones_only_theirs() -> None:
    matcher = Matcher(
        plan_of(rules=[rule_document("every", "deny", HOST), rule_document("one", "allow", HOST, ports=[22])])
    )
    assert who(matcher.rule_answer(HOST, 9999)) == "every"
    assert who(matcher.rule_answer(HOST, 22)) == "one"


def test_a_lone_wildcard_attaches_no_credential() -> None:
    """H10."""
    matcher = Matcher(plan_of([route_document()], [rule_document("any", "allow", methods=["GET"])]))
    assert decide(matcher, "GET", "/", host="other.test").kind is AnswerKind.FORWARD


# --- two readings -----------------------------------------------------------------------------------------------------

SLASH_ROUTES = [
    route_document("v1", match={"hosts": [HOST], "pathPrefixes": ["/v1"]}),
    route_document("admin", match={"hosts": [HOST], "pathPrefixes": ["/v1/admin"]}),
    route_document("literal", match={"hosts": [HOST], "pathPrefixes": ["/p"], "encodedSlash": "literal"}),
    route_document("inner", match={"hosts": [HOST], "pathPrefixes": ["/p/a/b"]}),
]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param("/v1/a%2Fb", "v1", id="P3-same-either-way"),
        pytest.param("/v1/a%2fb", "v1", id="P3-lower-case-hex"),
        pytest.param("/v1%2Fadmin", "refuse", id="P3-reaches-a-route"),
        pytest.param("/v1/admin%2Fx", "refuse", id="P3-reaches-another-route"),
        pytest.param("/v1/%2Fadmin", "v1", id="P3-empty-segment-either-way"),
        pytest.param("/p/a%2Fb", "literal", id="P3-literal"),
        pytest.param("/x%2Fy", "forward", id="P3-nothing-either-way"),
        pytest.param("/v1/admin%252Fx", "v1", id="P3-double-encoding-is-literal"),
    ],
)
def test_an_encoded_slash_never_changes_who_answers(path: str, expected: str) -> None:
    assert who(decide(Matcher(plan_of(SLASH_ROUTES)), "GET", path)) == expected


def test_an_encoded_slash_that_would_reach_a_deny_rule_is_refused() -> None:
    matcher = Matcher(plan_of(SLASH_ROUTES[:1], [rule_document("no", "deny", HOST, pathPrefixes=["/v1/x/y"])]))
    assert decide(matcher, "GET", "/v1/x%2Fy").kind is AnswerKind.REFUSE
    assert who(decide(matcher, "GET", "/v1/x%2Fz")) == "v1"


ESCAPES = [
    route_document("all", match={"hosts": [HOST]}),
    route_document("scope", match={"hosts": [HOST], "pathPrefixes": ["/@scope"]}),
    route_document("spelled", match={"hosts": [HOST], "pathPrefixes": ["/%40spelled"]}),
    route_document("literal", match={"hosts": [HOST], "pathPrefixes": ["/p"], "encodedSlash": "literal"}),
    route_document("first", match={"hosts": [HOST], "pathPrefixes": ["/%3Aboth"]}),
    route_document("second", match={"hosts": [HOST], "pathPrefixes": ["/:both"]}),
]
NO_ESCAPES = [
    rule_document("no", "deny", HOST, pathPrefixes=["/@acme", "/v1/m:go", "/p/(x)", "/%7Bid%7D"]),
    rule_document("slash", "deny", HOST, pathPrefixes=["/@deep/pkg"]),
    rule_document("yes", "allow", HOST, pathPrefixes=["/{id}"]),
]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param("/@acme/pkg", "no", id="P3-as-it-is-denied"),
        pytest.param("/%40acme/pkg", "refuse", id="P3-an-escape-by-a-deny-rule"),
        pytest.param("/%40acme%2Fpkg", "refuse", id="P3-an-escape-and-a-slash"),
        pytest.param("/@acme%2Fpkg", "refuse", id="P3-a-slash"),
        pytest.param("/%40deep%2Fpkg", "refuse", id="P3-both-together"),
        pytest.param("/v1/m%3Ago", "refuse", id="P3-a-verb"),
        pytest.param("/v1/m%3ago", "refuse", id="P3-lower-case-hex"),
        pytest.param("/p/%28x%29", "refuse", id="P3-where-slashes-are-literal"),
        pytest.param("/p/%28x)", "refuse", id="P3-half-escaped"),
        pytest.param("/%7Bid%7D", "no", id="P3-as-the-plan-escapes-it"),
        pytest.param("/{id}", "no", id="P3-a-rule-written-with-escapes"),
        pytest.param("/{id%7D", "refuse", id="P3-half-of-them"),
        pytest.param("/%40scope/x", "refuse", id="P3-another-route"),
        pytest.param("/@scope/x", "scope", id="P3-that-route"),
        pytest.param("/@spelled", "spelled", id="P3-a-route-written-with-escapes"),
        pytest.param("/:both", "second", id="P3-who-writes-it-so-has-it"),
        pytest.param("/%3Aboth", "refuse", id="P3-and-its-escape-has-two-readings"),
        pytest.param("/v1/a%40b", "all", id="P3-same-either-way"),
        pytest.param("/v1/%20%C3%BC", "all", id="P3-what-must-be-escaped"),
        pytest.param("/%2540acme", "all", id="P3-double-encoding-is-literal"),
    ],
)
def test_an_escape_never_changes_who_answers(path: str, expected: str) -> None:
    assert who(decide(Matcher(plan_of(ESCAPES, NO_ESCAPES)), "GET", path)) == expected


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        pytest.param("post", "refuse", id="upper-case-form-is-claimed-by-another-route"),
        pytest.param("delete", "refuse", id="upper-case-form-is-denied"),
        pytest.param("put", "any", id="same-answer-either-way"),
        pytest.param("purge", "lower", id="the-plan-itself-writes-it-so"),
        pytest.param("123", "any", id="no-letters"),
    ],
)
def test_a_method_in_lower_case_never_changes_who_answers(method: str, expected: str) -> None:
    matcher = Matcher(
        plan_of(
            [
                route_document("any"),
                route_document("post", match={"hosts": [HOST], "methods": ["POST"]}),
                route_document("lower", match={"hosts": [HOST], "methods": ["purge"]}),
                route_document("upper", match={"hosts": [HOST], "methods": ["PURGE"]}),
            ],
            [rule_document("no", "deny", HOST, methods=["DELETE"])],
        )
    )
    assert who(decide(matcher, method, "/")) == expected


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        pytest.param("DELETE", "/v1/keys/1", "no", id="P3-as-it-is-denied"),
        pytest.param("delete", "/v1/keys/1", "refuse", id="P3-the-method"),
        pytest.param("DELETE", "/v1%2Fkeys/1", "refuse", id="P3-the-slash"),
        pytest.param("delete", "/v1%2Fkeys/1", "refuse", id="P3-the-method-and-the-slash"),
        pytest.param("Delete", "/v1/keys%2f1", "refuse", id="P3-whatever-letters"),
        pytest.param("delete", "/%40acme/x", "refuse", id="P3-the-method-and-an-escape"),
        pytest.param("delete", "/%40acme%2Fx", "refuse", id="P3-all-three"),
        pytest.param("delete", "/p/%40acme", "refuse", id="P3-an-escape-where-slashes-are-literal"),
        pytest.param("delete", "/p/v1%2Fkeys", "literal", id="P3-a-literal-slash"),
        pytest.param("delete", "/%40other%2Fx", "any", id="P3-same-whichever-way"),
        pytest.param("get", "/v1%2Fkeys/1", "any", id="P3-a-method-that-is-not-denied"),
        pytest.param("purge", "/v2%2Fcache", "lower", id="P3-the-plan-itself-writes-it-so"),
    ],
)
def test_p3_a_method_and_a_path_read_otherwise_together_never_change_who_answers(
    method: str, path: str, expected: str
) -> None:
    matcher = Matcher(
        plan_of(
            [
                route_document("any"),
                route_document("literal", match={"hosts": [HOST], "pathPrefixes": ["/p"], "encodedSlash": "literal"}),
                route_document("lower", match={"hosts": [HOST], "methods": ["purge"]}),
            ],
            [
                rule_document("no", "deny", HOST, methods=["DELETE"], pathPrefixes=["/v1/keys", "/@acme"]),
                rule_document("too", "deny", HOST, methods=["DELETE"], pathPrefixes=["/p/@acme", "/p/v1/keys"]),
                rule_document("upper", "deny", HOST, methods=["PURGE"], pathPrefixes=["/v2/cache"]),
            ],
        )
    )
    assert who(decide(matcher, method, path)) == expected


# --- managed hosts ----------------------------------------------------------------------------------------------------


def test_managed_are_the_ports_of_routes_and_of_rules_that_read_requests() -> None:
    matcher = Matcher(
        plan_of(
            [
                route_document("a", match={"hosts": ["a.test"]}),
                route_document("b", match={"hosts": ["*.b.test", "a.test"], "ports": [8443]}),
            ],
            [
                rule_document("c", "deny", "c.test", pathPrefixes=["/x"]),
                rule_document("d", "deny", "d.test", methods=["PUT"], ports=[8080]),
                rule_document("e", "deny", "e.test"),
            ],
        )
    )
    assert matcher.managed_set() == (
        ("*.b.test", (8443,)),
        ("a.test", (80, 443, 8443)),
        ("c.test", (EVERY_PORT,)),
        ("d.test", (8080,)),
    )
    managed = {
        (host, port)
        for host in ("a.test", "b.test", "x.b.test", "c.test", "d.test", "e.test")
        for port in (22, 80, 443, 8080, 8443)
        if matcher.manages(host, port)
    }
    assert managed == {
        ("a.test", 80),
        ("a.test", 443),
        ("a.test", 8443),
        ("x.b.test", 8443),
        *(("c.test", port) for port in (22, 80, 443, 8080, 8443)),
        ("d.test", 8080),
    }
    assert matcher.for_host("http", "a.test", 443).managed, "managed is a matter of host and port, not of scheme"
    assert not matcher.for_host("https", "e.test", 443).managed


def test_opaque_bytes_are_answered_by_rules_that_need_no_request() -> None:
    matcher = Matcher(
        plan_of(
            [route_document()],
            [rule_document("reads", "deny", HOST, methods=["GET"]), rule_document("all", "allow", "*.example.com")],
            default="deny",
        )
    )
    assert who(matcher.rule_answer(HOST, 443)) == "all"
    other = matcher.rule_answer("other.test", 443)
    assert (other.kind, other.rule) == (AnswerKind.DENY, None)


def test_the_memory_of_hosts_is_bounded() -> None:
    matcher = Matcher(plan_of([route_document()]))
    first = matcher.for_host("https", HOST, 443)
    assert matcher.for_host("https", HOST, 443) is first
    for number in range(MAX_REMEMBERED_HOSTS):
        matcher.for_host("https", f"h{number}.test", 443)
    assert matcher.for_host("https", HOST, 443) is not first
    assert who(decide(matcher, "GET", "/")) == "route"


def test_an_answer_is_printed_in_words() -> None:
    matcher = Matcher(plan_of([route_document()]))
    assert repr(decide(matcher, "GET", "/")) == "<Answer inject by route: a route claims this>"
    assert repr(matcher.rule_answer("other.test", 22)).startswith("<Answer forward by default: ")


# --- properties -------------------------------------------------------------------------------------------------------

SOME = {
    "hosts": st.lists(st.sampled_from([HOST, "*.example.com", "*.com"]), min_size=1, max_size=2),
    "ports": st.none() | st.lists(st.sampled_from([443, 8443]), min_size=1, max_size=2),
    "methods": st.none() | st.lists(st.sampled_from(["GET", "POST"]), min_size=1, max_size=2),
    "pathPrefixes": st.none() | st.lists(st.sampled_from(["/", "/v1", "/v1/x", "/v2"]), min_size=1, max_size=2),
}
CLAIMS = st.fixed_dictionaries(SOME).map(
    lambda claim: {name: value for name, value in claim.items() if value is not None}
)


@given(
    st.lists(CLAIMS, max_size=4),
    st.sampled_from(["GET", "PUT"]),
    st.sampled_from(["/", "/v1", "/v1/x/y", "/v2/x"]),
    st.sampled_from([443, 8443]),
)
def test_the_index_agrees_with_a_scan_of_the_precedence_rules(
    claims: list[dict[str, list[object]]], method: str, path: str, port: int
) -> None:
    """A plain restatement of the contract over the documents themselves, with the same rules as deny rules."""
    rules = [rule_document(f"r{index}", "deny", **claim) for index, claim in enumerate(claims)]
    best: tuple[tuple[int, ...], str] | None = None
    for rule in rules:
        rank = _rank(rule, method, path, port)
        if rank is not None and (best is None or rank > best[0]):
            best = rank, str(rule["ruleId"])
    answer = decide(Matcher(plan_of(rules=rules)), method, path, port=port)
    assert answer.egress_rule_id == (best[1] if best else None)


READ_SO = {"/": ["/", "%2F"], "@": ["@", "%40"]}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["deny", "allow"]),
            st.sampled_from([["GET"], ["DELETE"], ["GET", "DELETE"]]),
            st.sampled_from(["/", "/v1", "/v1/@a", "/@a", "/@a/v1"]),
        ),
        max_size=4,
    ),
    st.sampled_from([("GET", "get"), ("DELETE", "delete", "Delete")]),
    st.sampled_from(["/v1", "/v1/@a", "/@a", "/@a/v1", "/@a/@a"]),
)
def test_p3_every_reading_of_a_request_that_is_answered_has_that_answer(
    claims: list[tuple[str, list[str], str]], methods: tuple[str, ...], path: str
) -> None:
    rules = [
        rule_document(f"r{index}", action, HOST, methods=listed, pathPrefixes=[prefix])
        for index, (action, listed, prefix) in enumerate(claims)
    ]
    matcher = Matcher(plan_of([route_document(match={"hosts": [HOST], "pathPrefixes": ["/@a"]})], rules))
    plainly = decide(matcher, methods[0], path)
    spellings = ["/" + "".join(chosen) for chosen in product(*(READ_SO.get(each, [each]) for each in path[1:]))]
    for method, spelling in product(methods, spellings):
        answer = decide(matcher, method, spelling)
        assert answer is plainly or answer.kind is AnswerKind.REFUSE


def _rank(rule: dict[str, object], method: str, path: str, port: int) -> tuple[int, ...] | None:
    hosts = [-pattern.count("*") * 100 + len(pattern) for pattern in _listed(rule, "hosts")]
    prefixes = [
        len(p.rstrip("/")) for p in _listed(rule, "pathPrefixes") or ["/"] if f"{path}/".startswith(f"{p.rstrip('/')}/")
    ]
    ports, methods = rule.get("ports"), rule.get("methods")
    claims_port = ports is None or port in _listed(rule, "ports")
    claims_method = methods is None or method in _listed(rule, "methods")
    if not (prefixes and claims_port and claims_method):
        return None
    return max(hosts), int(ports is not None), max(prefixes), int(methods is not None)


def _listed(rule: dict[str, object], name: str) -> list[Any]:
    value = rule.get(name)
    return value if isinstance(value, list) else []
