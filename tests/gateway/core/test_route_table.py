"""A plan's routes, compiled (egress cases C1, C5, C8, C12, A1)."""

from collections.abc import Mapping

import pytest

from gateway.core.request_limit import RequestLimit
from gateway.core.route_table import AUTH_SLOTS, MAX_UPSTREAMS_PER_ROUTE, OVERRIDES, InjectRoute, RouteTable
from sallyport.destination import Destination
from sallyport.plan.codec import parse_plan, seal
from tests.support.plan_documents import Document, plan_document, plan_of, route_document, rule_document

API = Destination("https", "api.example.com", 443)
BEARER = {"type": "bearer"}


def resolver(connection_id: str, **fields: object) -> Document:
    return {"kind": "integration_connection", "connectionId": connection_id, "secretType": "api_key", **fields}


def route_of(auth: Mapping[str, object] = BEARER, **fields: object) -> InjectRoute:
    return RouteTable(plan_of([route_document("r", authInjection=auth, **fields)])).routes["r"]


SIGNED = {b"x-amz-content-sha256", b"x-amz-date", b"x-amz-security-token"}


# --- what is removed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("auth", "also"),
    [
        (BEARER, set()),
        ({"type": "bearer", "header": "X-Auth"}, {b"x-auth"}),
        ({"type": "basic", "username": "u"}, set()),
        ({"type": "aws_sigv4", "region": "eu-1", "service": "s3"}, SIGNED),
        ({"type": "header", "header": "X-Goog-API-Key"}, {b"x-goog-api-key"}),
        ({"type": "header", "header": "X_Odd_Key"}, {b"x-odd-key"}),
        ({"type": "query", "parameter": "key"}, set()),
    ],
)
def test_c1_every_auth_slot_and_what_is_written_is_removed(auth: Mapping[str, object], also: set[bytes]) -> None:
    assert route_of(auth).removed == AUTH_SLOTS | OVERRIDES | also


def test_c1_all_headers_that_are_written_are_removed() -> None:
    route = route_of(
        additionalHeaders={"X-Version": "2024", "Accept_Language": "en\xe9"},
        additionalCredentialHeaders=[{"header": "X-Second", "credentialResolver": resolver("con_two")}],
    )
    assert route.removed == AUTH_SLOTS | OVERRIDES | {b"x-version", b"accept-language", b"x-second"}
    assert route.static_block == b"Accept_Language: en\xe9\r\nX-Version: 2024\r\n"
    assert route.additional_names == (b"X-Second",)


@pytest.mark.parametrize("kept", ["cookie", "COOKIE"])
def test_c1_keep_headers_keeps_a_slot(kept: str) -> None:
    assert route_of(keepHeaders=[kept]).removed == (AUTH_SLOTS | OVERRIDES) - {b"cookie"}


@pytest.mark.parametrize("kept", ["X-HTTP-Method-Override", "x_http_method_override"])
def test_keep_headers_keeps_an_override_and_no_other(kept: str) -> None:
    assert route_of(keepHeaders=[kept]).removed == (AUTH_SLOTS | OVERRIDES) - {b"x-http-method-override"}


def test_c1_keeping_every_override_keeps_no_auth_slot() -> None:
    names = [name.decode() for name in sorted(OVERRIDES)]
    assert route_of(keepHeaders=names).removed == AUTH_SLOTS


def test_keep_headers_never_keeps_an_override_that_is_written() -> None:
    route = route_of(additionalHeaders={"X-Original-URL": "/"}, keepHeaders=["X_Original_URL"])
    assert route.removed >= OVERRIDES


def test_c1_keep_headers_never_keeps_what_is_written() -> None:
    # The plan refuses the exact name; its underscore twin is the same header to many servers.
    route = route_of({"type": "header", "header": "X-Api-Key"}, keepHeaders=["X_Api_Key", "Cookie"])
    assert b"x-api-key" in route.removed
    assert b"authorization" in route.removed
    assert b"cookie" not in route.removed


def test_p9_the_injected_parameter_is_stripped() -> None:
    assert route_of().strip_query == frozenset()
    assert route_of(stripQuery=["a"]).strip_query == {"a"}
    assert route_of({"type": "query", "parameter": "key"}, stripQuery=["a", "key"]).strip_query == {"a", "key"}


# --- credentials ------------------------------------------------------------------------------------------------------


def test_c8_credentials_are_named_by_tuples() -> None:
    route = route_of(
        credentialResolver=resolver("con_two", slotKey="s", resolverKey="k"),
        additionalCredentialHeaders=[{"header": "X-Second", "credentialResolver": resolver("con_one")}],
    )
    first, second = route.credentials
    assert first.key == ("org_one", "sbx_one", "bnd_one", "con_two", "api_key", "s", "k")
    assert second.key == ("org_one", "sbx_one", "bnd_one", "con_one", "api_key", None, None)
    assert (first.plan_revision, first.egress_rule_id) == (1, "r")
    assert route.connection_ids == ("con_one", "con_two")


def test_one_connection_used_twice_is_one() -> None:
    route = route_of(additionalCredentialHeaders=[{"header": "X-Second", "credentialResolver": resolver("con_one")}])
    assert route.connection_ids == ("con_one",)
    assert len(route.credentials) == 2


# --- upstreams --------------------------------------------------------------------------------------------------------


def test_an_upstream_is_the_destination_or_the_route_s_own() -> None:
    upstream = route_of().upstream_for(API)
    assert upstream.destination == API
    assert upstream.host_line == b" HTTP/1.1\r\nHost: api.example.com"
    moved = route_of(upstream={"baseUrl": "https://Other.example.com:8443"}).upstream_for(API)
    assert moved.destination == Destination("https", "other.example.com", 8443)
    assert moved.host_line == b" HTTP/1.1\r\nHost: other.example.com:8443"


def test_c12_links_are_shared_only_where_everything_is_equal() -> None:
    table = RouteTable(plan_of([route_document("a"), route_document("b", match={"hosts": ["b.example.com"]})]))
    key = table.routes["a"].upstream_for(API).pool_key
    assert key == ("org_one", ("connections", "con_one"), "https", "api.example.com", 443)
    assert table.routes["b"].upstream_for(API).pool_key == key
    others = [
        table.forward_upstream(API).pool_key,
        route_of(credentialResolver=resolver("con_two")).upstream_for(API).pool_key,
        table.routes["a"].upstream_for(API._replace(port=8443)).pool_key,
        table.routes["a"].upstream_for(API._replace(scheme="http")).pool_key,
        table.routes["a"].upstream_for(API._replace(host="b.example.com")).pool_key,
        RouteTable(parse_plan(seal(plan_document([route_document("a")], organizationId="org_two"))))
        .routes["a"]
        .upstream_for(API)
        .pool_key,
    ]
    assert len({key, *others}) == 1 + len(others)


def test_c12_what_carries_no_credential_is_the_sandbox_s_alone() -> None:
    one = RouteTable(plan_of()).forward_upstream(API).pool_key
    two = RouteTable(parse_plan(seal(plan_document(sandboxId="sbx_two")))).forward_upstream(API).pool_key
    assert one.owner == ("sandbox", "sbx_one")
    assert one != two


def test_upstreams_are_remembered_within_bounds() -> None:
    route = route_of(match={"hosts": ["*.example.com"]})
    assert route.upstream_for(API) is route.upstream_for(API)
    for number in range(MAX_UPSTREAMS_PER_ROUTE + 1):
        route.upstream_for(API._replace(host=f"h{number}.example.com"))
    assert len(route._upstreams) <= MAX_UPSTREAMS_PER_ROUTE


# --- placeholders -----------------------------------------------------------------------------------------------------


def test_c5_a_placeholder_of_any_route_is_found() -> None:
    routes = [
        route_document("a", placeholders=[{"value": "sp-one-(1)", "in": ["header"]}]),
        route_document(
            "b", match={"hosts": ["b.example.com"]}, placeholders=[{"value": "sp-two-222", "in": ["query"]}]
        ),
    ]
    table = RouteTable(plan_of(routes))
    assert table.has_placeholders
    assert table.holds_placeholder(b"x sp-two-222 y")
    assert table.holds_placeholder(b"sp-one-(1)")
    assert not table.holds_placeholder(b"sp-one-1 sp-two-22 SP-TWO-222")


def test_a_plan_without_placeholders_finds_none() -> None:
    table = RouteTable(plan_of([route_document("a")]))
    assert not table.has_placeholders
    assert not table.holds_placeholder(b"")


def test_c6_the_longest_placeholder_is_replaced_first() -> None:
    route = route_of(placeholders=[{"value": "sp-place-1", "in": ["header"]}, {"value": "sp-place-12", "in": ["path"]}])
    assert route.placeholders == ((b"sp-place-12", frozenset({"path"})), (b"sp-place-1", frozenset({"header"})))


# --- the rest ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("routes", "rules", "names_hosts"),
    [
        ([], [], False),
        ([], [rule_document("a", "allow")], False),
        ([], [rule_document("a", "deny", "b.example")], True),
        ([route_document("a")], [], True),
    ],
)
def test_a1_whether_bytes_without_a_name_may_pass(
    routes: list[Document], rules: list[Document], names_hosts: bool
) -> None:
    assert RouteTable(plan_of(routes, rules)).names_hosts is names_hosts


def test_limits_and_cleartext() -> None:
    route = route_of(limits={"maxRequestBodyBytes": 0}, allowCleartext=True)
    assert (route.max_body_bytes, route.allow_cleartext) == (0, True)
    assert (route_of().max_body_bytes, route_of().allow_cleartext) == (None, False)
    assert (route.limit, route_of().limit) == (None, None)


@pytest.mark.parametrize(
    ("limits", "admitted"),
    [
        ({"requestsPerMinute": 2}, [None, None, (30, False)]),
        ({"maxConcurrent": 1}, [None, (1, True), (1, True)]),
        ({"requestsPerMinute": 1, "maxConcurrent": 2, "maxRequestBodyBytes": 5}, [None, (60, False), (60, False)]),
    ],
)
def test_a_route_that_limits_requests_counts_its_own(limits: Document, admitted: list[tuple[int, bool] | None]) -> None:
    table = RouteTable(
        plan_of(
            [
                route_document("a", limits=limits),
                route_document("b", match={"hosts": ["b.example.com"]}, limits=limits),
            ]
        )
    )
    for route in table.routes.values():
        assert route.limit is not None
        assert [route.limit.admit(0.0) for _ in admitted] == admitted


def test_a_new_revision_goes_on_counting_where_a_route_and_its_limits_are_the_same() -> None:
    def table(revision: int, **limits: Document) -> RouteTable:
        routes = [
            route_document(name, match={"hosts": [f"{name}.example.com"]}, limits=limit)
            for name, limit in limits.items()
        ]
        return RouteTable(parse_plan(seal({**plan_document(routes, []), "revision": revision})))

    before = table(1, same={"maxConcurrent": 1}, other={"maxConcurrent": 1}, gone={"maxConcurrent": 1})
    after = table(2, same={"maxConcurrent": 1}, other={"maxConcurrent": 2}, new={"maxConcurrent": 1})
    made = {name: after.routes[name].limit for name in ("other", "new")}
    before.sandbox_limit = RequestLimit(per_minute=1, max_concurrent=None)
    after.succeed(before)
    assert after.sandbox_limit is before.sandbox_limit
    assert after.routes["same"].limit is before.routes["same"].limit is not None
    assert {name: after.routes[name].limit for name in made} == made


def test_reprs_name_what_they_are() -> None:
    table = RouteTable(plan_of([route_document("a")]))
    assert repr(table) == "<RouteTable sbx_one revision 1: 1 routes>"
    assert repr(table.routes["a"]) == "<InjectRoute a>"
    assert (table.digest, table.revision) == (table.plan.digest, 1)
