"""Admission and classification (contracts section 1, "Order of decision"; egress cases H9, P8, A1)."""

from collections.abc import Sequence

import pytest

from gateway.core.classify import (
    MAX_REMEMBERED_PATH_BYTES,
    MAX_REMEMBERED_REQUESTS,
    admit,
    admit_declared,
    classify,
    opaque_rule_id,
)
from gateway.core.decision import FORWARD, Decision, Deny, Forward, Mode
from gateway.core.declaration import Declaration
from gateway.core.route_table import InjectRoute, RouteTable
from sallyport.destination import Destination
from sallyport.host import parse_host_pattern
from sallyport.plan.codec import parse_plan, seal
from sallyport.problem import Code
from tests.support.plan_documents import Document, plan_document, plan_of, route_document, rule_document

ROUTE = route_document("openai", match={"hosts": ["api.example.com"], "methods": ["GET"], "pathPrefixes": ["/v1"]})
API = Destination("https", "api.example.com", 443)
PASSTHROUGH_HOSTS = (parse_host_pattern("*.example.com"),)


def table_of(
    routes: Sequence[Document] = (ROUTE,), rules: Sequence[Document] = (), *, default: str = "passthrough"
) -> RouteTable:
    return RouteTable(plan_of(routes, rules, default=default))


def decide(table: RouteTable, method: str = "GET", path: str = "/v1", destination: Destination = API) -> Decision:
    return classify(table, destination, method, path.encode()).decision


def denied(decision: object) -> Deny:
    assert isinstance(decision, Deny)
    return decision


# --- requests ---------------------------------------------------------------------------------------------------------


def test_a_route_is_the_decision_to_inject() -> None:
    table = table_of()
    decision = decide(table, "GET", "/v1/x")
    assert isinstance(decision, InjectRoute)
    assert decision is table.routes["openai"]


@pytest.mark.parametrize(
    ("method", "path", "destination"),
    [
        ("GET", "/v1evil", API),  # P8
        ("GET", "//v1/x", API),  # P2
        ("POST", "/v1", API),
        ("GET", "/v1", Destination("https", "api.example.com", 8443)),  # H9
        ("GET", "/v1", Destination("https", "evil-api.example.com", 443)),  # H2
        ("GET", "/v1", Destination("https", "api.example.com.evil.com", 443)),
    ],
)
def test_h2_h9_p2_p8_what_no_route_claims_is_forwarded_without_a_credential(
    method: str, path: str, destination: Destination
) -> None:
    assert decide(table_of(), method, path, destination) is FORWARD


def test_an_allow_rule_is_named() -> None:
    table = table_of(rules=[rule_document("ok", "allow", "other.example.com")], default="deny")
    assert decide(table, destination=Destination("https", "other.example.com", 443)) == Forward(rule_id="ok")


def test_a_deny_rule_comes_before_the_route() -> None:
    table = table_of(rules=[rule_document("no", "deny", "api.example.com", reason="not on Sundays")])
    deny = denied(decide(table))
    assert (deny.code, deny.rule_id, deny.detail) == (Code.DENIED_BY_PLAN, "no", "not on Sundays")
    assert deny.hint


def test_the_default_denies_and_says_what_was_nearest() -> None:
    deny = denied(decide(table_of(default="deny"), "GET", "/v2"))
    assert (deny.code, deny.rule_id) == (Code.DENIED_BY_PLAN, None)
    assert deny.nearest is not None
    assert deny.nearest["egressRuleId"] == "openai"
    assert deny.hint is not None
    assert "trying again" in deny.hint


def test_an_unmanaged_host_is_denied_without_its_path() -> None:
    deny = denied(decide(table_of(default="deny"), destination=Destination("https", "x.example.com", 443), path="/%zz"))
    assert deny.nearest is not None
    assert deny.nearest["mismatch"] == ["host"]
    assert denied(decide(table_of([], default="deny"), path="/%zz")).nearest is None


def test_p2_what_is_matched_is_what_is_sent() -> None:
    table = table_of()
    decision, path, upstream = classify(table, API, "GET", b"/v1/%61bc%2a")
    assert decision is table.routes["openai"]
    assert path == b"/v1/abc%2A"
    assert upstream is not None
    assert upstream.destination == API


def test_p10_the_path_of_an_unmanaged_host_is_nobody_s_to_change() -> None:
    other = Destination("https", "other.example.com", 443)
    decision, path, upstream = classify(table_of(), other, "GET", b"/%61/../b\\")
    assert (decision, path) == (FORWARD, b"/%61/../b\\")
    assert upstream is not None
    assert upstream.destination == other


@pytest.mark.parametrize(
    "path",
    ["/v1/../x", "/v1/%2e%2E/x", "/v1/./x", "/v1\\x", "/v1%5cx", "/v1/%00", "/v1/%0d", "/v1/%7f", "/v1/%zz", "/v1/%"],
)
def test_p1_p3_p5_a_hostile_path_of_a_managed_host_is_400(path: str) -> None:
    decision, sent, upstream = classify(table_of(), API, "GET", path.encode())
    deny = denied(decision)
    assert (deny.code, upstream, sent) == (Code.INVALID_REQUEST, None, path.encode())
    assert deny.hint


def test_p7_an_empty_path_is_400() -> None:
    assert denied(decide(table_of(), path="")).code is Code.INVALID_REQUEST


def test_what_was_decided_is_remembered_within_bounds() -> None:
    table = table_of()
    assert classify(table, API, "GET", b"/v1/x") is classify(table, API, "GET", b"/v1/x")
    for number in range(MAX_REMEMBERED_REQUESTS + 1):
        classify(table, API, "GET", b"/v1/%d" % number)
    assert len(table.classified) <= MAX_REMEMBERED_REQUESTS
    for method, path in (("GET", "/v1/" + "x" * MAX_REMEMBERED_PATH_BYTES), ("X" * 10_000, "/v1")):
        before = len(table.classified)
        assert decide(table, method, path) == decide(table, method, path)
        assert len(table.classified) == before


def test_a_memory_is_one_table_s_own() -> None:
    assert isinstance(decide(table_of()), InjectRoute)
    assert decide(table_of([])) is FORWARD


def test_a_method_in_the_wrong_case_is_400_with_a_hint() -> None:
    deny = denied(decide(table_of(), "get"))
    assert (deny.code, deny.code.status) == (Code.INVALID_REQUEST, 400)
    assert deny.hint is not None
    assert "case" in f"{deny.detail} {deny.hint}"
    assert deny.nearest is None


@pytest.mark.parametrize("method", ["TRACE", "trace", "Trace", "tRACE"])
@pytest.mark.parametrize(
    ("table", "destination", "path"),
    [
        (table_of(), API, "/v1"),
        (table_of(), API, "/v1/../x"),
        (table_of(), Destination("https", "other.example.com", 443), "/"),
        (table_of([], [rule_document("ok", "allow", methods=["TRACE", "trace"])], default="deny"), API, "/"),
        (table_of([], default="deny"), API, "/"),
    ],
    ids=["route", "hostile path", "forwarded", "allowed by a rule", "denied"],
)
def test_c3_trace_is_405_in_any_case_and_whatever_the_plan_says(
    method: str, table: RouteTable, destination: Destination, path: str
) -> None:
    decision, sent, upstream = classify(table, destination, method, path.encode())
    deny = denied(decision)
    assert (deny.code, deny.code.status, upstream, sent) == (Code.TRACE_REFUSED, 405, None, path.encode())


def test_c3_trace_is_denied_as_a_whole_word_only() -> None:
    assert decide(table_of([]), "TRACER") is FORWARD


def test_p3_an_encoded_slash_that_matters_is_400() -> None:
    assert denied(decide(table_of(), path="/v1%2Fx")).code is Code.INVALID_REQUEST


def test_a_credential_is_never_sent_over_http() -> None:
    match = {"hosts": ["api.example.com"], "ports": [80, 443]}
    cleartext = Destination("http", "api.example.com", 80)
    deny = denied(decide(table_of([route_document("openai", match=match)]), destination=cleartext))
    assert (deny.code, deny.rule_id, deny.hint) == (Code.CLEARTEXT_REFUSED, "openai", "use https://")
    assert deny.nearest is None
    allowed = table_of([route_document("openai", match=match, allowCleartext=True)])
    assert isinstance(decide(allowed, destination=cleartext), InjectRoute)


# --- streams ----------------------------------------------------------------------------------------------------------


def admission(table: RouteTable, host: str = "api.example.com", port: int = 443, *, passes: bool = False) -> object:
    return admit(table, host, port, PASSTHROUGH_HOSTS if passes else ())


def table_letting_pass(*rules: Document, default: str = "passthrough") -> RouteTable:
    egress = {"default": default, "managedPassthrough": "allow", "rules": list(rules)}
    return RouteTable(parse_plan(seal(plan_document([ROUTE], egress=egress))))


def test_a_managed_host_is_intercepted() -> None:
    assert admission(table_of(default="deny")) is Mode.INTERCEPTED


def test_a_host_is_managed_by_a_rule_that_reads_requests() -> None:
    table = table_of([], [rule_document("ro", "deny", "api.example.com", methods=["POST"])])
    assert admission(table) is Mode.INTERCEPTED


@pytest.mark.parametrize(
    ("host", "port", "mismatch"), [("other.example.com", 443, "host"), ("api.example.com", 22, "port")]
)
def test_an_unmanaged_host_passes_or_is_denied_by_the_default(host: str, port: int, mismatch: str) -> None:
    assert admission(table_of(), host, port) is Mode.PASSTHROUGH
    deny = denied(admission(table_of(default="deny"), host, port))
    assert deny.code is Code.DENIED_BY_PLAN
    assert (deny.nearest or {})["mismatch"] == [mismatch]


def test_an_unmanaged_host_passes_or_is_denied_by_rule() -> None:
    rules = [rule_document("no", "deny", "bad.example.com"), rule_document("ok", "allow", "good.example.com")]
    assert admission(table_of(rules=rules, default="deny"), "good.example.com") is Mode.PASSTHROUGH
    assert denied(admission(table_of(rules=rules), "bad.example.com")).rule_id == "no"


def test_a_managed_host_passes_unseen_only_where_plan_and_operator_agree() -> None:
    assert admission(table_letting_pass()) is Mode.INTERCEPTED
    assert admission(table_letting_pass(), passes=True) is Mode.PASSTHROUGH
    assert admission(table_letting_pass(default="deny"), passes=True) is Mode.PASSTHROUGH
    deny = denied(admission(table_of(), passes=True))
    assert deny.code is Code.DENIED_BY_PLAN
    assert deny.hint is not None
    assert "managedPassthrough" in deny.hint


def test_a_deny_rule_holds_for_opaque_bytes_too() -> None:
    table = table_letting_pass(rule_document("no", "deny", "api.example.com"))
    assert denied(admission(table, passes=True)).rule_id == "no"


def test_the_rule_that_decides_about_opaque_bytes_has_a_name() -> None:
    rules = [rule_document("no", "deny", "bad.example.com"), rule_document("ok", "allow", "good.example.com")]
    table = table_of(rules=rules)
    hosts = ("bad.example.com", "good.example.com", "other.example.com", "api.example.com")
    assert [opaque_rule_id(table, host, 443) for host in hosts] == ["no", "ok", None, None]
    assert opaque_rule_id(table_letting_pass(rules[1]), "api.example.com", 443) is None
    assert (
        opaque_rule_id(table_letting_pass(rule_document("no", "deny", "api.example.com")), "api.example.com", 443)
        == "no"
    )


# ---- a stream whose mode sandboxd has chosen


@pytest.mark.parametrize(
    ("managed_passthrough", "mode", "revision", "expected"),
    [
        ("deny", Mode.INTERCEPTED, 1, Mode.INTERCEPTED),
        ("deny", Mode.INTERCEPTED, 9, Mode.INTERCEPTED),
        ("deny", Mode.PASSTHROUGH, 1, Code.DENIED_BY_PLAN),
        ("deny", Mode.PASSTHROUGH, 9, Code.STALE_INTERCEPTION),
        ("allow", Mode.PASSTHROUGH, 1, Mode.PASSTHROUGH),
        ("allow", Mode.PASSTHROUGH, 9, Code.STALE_INTERCEPTION),
    ],
)
def test_a_declared_mode_of_a_managed_host(
    managed_passthrough: str, mode: Mode, revision: int, expected: Mode | Code
) -> None:
    table = table_letting_pass() if managed_passthrough == "allow" else table_of()
    admitted = admit_declared(table, "api.example.com", 443, Declaration(mode, revision))
    assert (admitted.code if isinstance(admitted, Deny) else admitted) is expected


@pytest.mark.parametrize(
    ("default", "mode", "revision", "expected"),
    [
        ("passthrough", Mode.PASSTHROUGH, 1, Mode.PASSTHROUGH),
        ("passthrough", Mode.PASSTHROUGH, 9, Mode.PASSTHROUGH),
        ("deny", Mode.PASSTHROUGH, 9, Code.DENIED_BY_PLAN),
        ("passthrough", Mode.INTERCEPTED, 1, Code.INVALID_REQUEST),
        ("passthrough", Mode.INTERCEPTED, 9, Code.STALE_INTERCEPTION),
    ],
)
def test_a_declared_mode_of_an_unmanaged_host(default: str, mode: Mode, revision: int, expected: Mode | Code) -> None:
    admitted = admit_declared(table_of(default=default), "other.test", 443, Declaration(mode, revision))
    assert (admitted.code if isinstance(admitted, Deny) else admitted) is expected


def test_a_deny_rule_holds_for_a_declared_passthrough_too() -> None:
    table = table_letting_pass(rule_document("no", "deny", "api.example.com"))
    admitted = admit_declared(table, "api.example.com", 443, Declaration(Mode.PASSTHROUGH, 1))
    assert denied(admitted).rule_id == "no"
