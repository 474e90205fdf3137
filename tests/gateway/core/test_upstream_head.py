"""The head that goes upstream (egress cases S5, S6, S7, P9, P10, C1, C5, C6, C7)."""

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.credential_cache import Credential
from gateway.core.inject.prepare import Injection
from gateway.core.route_table import InjectRoute, RouteTable
from gateway.core.upstream_head import PlaceholderLeft, upstream_head
from sallyport.destination import Destination
from sallyport.secret import Secret
from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.codec import parse_request
from sallyport.wire.http1.head import CHUNKED, RequestHead
from sallyport.wire.http1.scan import HEAD_END
from tests.support.plan_documents import plan_of, route_document
from tests.support.strict_http import read_head

API = Destination("https", "api.example.com", 443)
SECRET = b"canary/+5d41402a bc4b"
IN_URL = b"canary%2F%2B5d41402a%20bc4b"
PLACEHOLDER = b"sp-placeholder-1"
BEARER = {"type": "bearer"}
QUERY = {"type": "query", "parameter": "key"}


def parsed(*lines: bytes, method: bytes = b"GET") -> RequestHead:
    return parse_request(b"\r\n".join((method + b" / HTTP/1.1", b"Host: sandbox.said.this", *lines)))


class Sent:
    """One route, its injection, and the heads it writes."""

    def __init__(self, auth: Mapping[str, object] = BEARER, *, scrub: bool = False, **fields: object) -> None:
        other = route_document(
            "other",
            match={"hosts": ["other.example.com"]},
            placeholders=[{"value": "sp-placeholder-of-another", "in": ["header"]}],
        )
        self.table = RouteTable(plan_of([route_document("r", authInjection=auth, **fields), other]))
        self.route: InjectRoute = self.table.routes["r"]
        self.injection = Injection(self.route, [Credential(Secret(SECRET), None, "1")], scrub=scrub)

    def head(
        self,
        *lines: bytes,
        path: bytes = b"/v1",
        query: bytes | None = None,
        upgrade: bytes | None = None,
        method: bytes = b"GET",
    ) -> bytes:
        upstream = self.route.upstream_for(API)
        head = parsed(*lines, method=method)
        return upstream_head(self.table, self.injection, head, upstream, path, query, upgrade)


def forwarded(
    *lines: bytes, query: bytes | None = None, upgrade: bytes | None = None, table: RouteTable | None = None
) -> bytes:
    table = table or RouteTable(plan_of())
    return upstream_head(table, None, parsed(*lines), table.forward_upstream(API), b"/v1", query, upgrade)


# --- Forward ----------------------------------------------------------------------------------------------------------


def test_a_forward_removes_nothing_but_what_is_this_hop_s() -> None:
    block = forwarded(
        b"Authorization:  Bearer own ",
        b"Cookie: a",
        b"Connection: x-hop",
        b"X-Hop: 1",
        b"Proxy-Authorization: Basic x",
        b"Accept-Encoding: gzip",
        query=b"a=%2f+;&api_key=x",
    )
    assert block == (
        b"GET /v1?a=%2f+;&api_key=x HTTP/1.1\r\nHost: api.example.com\r\n"
        b"Authorization:  Bearer own \r\nCookie: a\r\nAccept-Encoding: gzip\r\n\r\n"
    )


@pytest.mark.parametrize(("query", "target"), [(None, b"/v1"), (b"", b"/v1?"), (b"?", b"/v1??")])
def test_p10_the_query_is_forwarded_byte_for_byte(query: bytes | None, target: bytes) -> None:
    assert forwarded(query=query).partition(b" HTTP/1.1")[0] == b"GET " + target


@pytest.mark.parametrize(
    ("lines", "framing"),
    [
        ([], b""),
        ([b"Content-Length: 007"], b"Content-Length: 7\r\n"),
        ([b"Content-Length: 0"], b"Content-Length: 0\r\n"),
        ([b"transfer-encoding: CHUNKED"], b"Transfer-Encoding: chunked\r\n"),
        ([b"Content-Length: 3", b"Expect: 100-continue"], b"Content-Length: 3\r\nExpect: 100-continue\r\n"),
    ],
)
def test_s1_the_framing_that_leaves_is_ours(lines: list[bytes], framing: bytes) -> None:
    beginning = b"GET /v1 HTTP/1.1\r\nHost: api.example.com\r\n"
    assert forwarded(*lines) == beginning + framing + b"\r\n"
    injection = b"Authorization: Bearer " + SECRET + b"\r\n"
    assert Sent().head(*lines) == beginning + framing + injection + b"\r\n"


def test_s7_an_upgrade_leaves_only_where_it_was_accepted() -> None:
    lines = [b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Extensions: x"]
    assert b"pgrade" not in forwarded(*lines)
    block = forwarded(*lines, upgrade=b"websocket")
    assert block.endswith(b"Sec-WebSocket-Extensions: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")


# --- Inject -----------------------------------------------------------------------------------------------------------


def test_c1_a_foreign_key_never_rides_along() -> None:
    block = Sent({"type": "header", "header": "X-Goog-Api-Key"}).head(
        b"AUTHORIZATION: Bearer foreign",
        b"authorization: Basic foreign",
        b"X-Api-Key: foreign",
        b"X_Api_Key: foreign",
        b"api-key: foreign",
        b"Private-Token:foreign",
        b"Cookie: foreign",
        b"x-goog-api-key: foreign",
        b"X_Goog_Api-Key: foreign",
        b"X-Keep: kept",
    )
    assert block == (
        b"GET /v1 HTTP/1.1\r\nHost: api.example.com\r\nX-Keep: kept\r\nX-Goog-Api-Key: " + SECRET + b"\r\n\r\n"
    )


def test_s5_naming_the_injected_header_in_connection_removes_nothing_of_ours() -> None:
    block = Sent().head(b"Connection: authorization, host, content-length, close", b"Content-Length: 3")
    assert b"\r\nAuthorization: Bearer " + SECRET + b"\r\n" in block
    assert b"\r\nHost: api.example.com\r\n" in block
    assert b"\r\nContent-Length: 3\r\n" in block
    assert b"Connection" not in block


def test_p9_the_injected_parameter_is_the_only_one_of_its_name() -> None:
    block = Sent(QUERY, stripQuery=["sig"]).head(query=b"a=1&%6bey=foreign;key=foreign&sig=2&b=%2f", path=b"/v1")
    assert block.startswith(b"GET /v1?a=1&b=%2f&key=" + IN_URL + b" HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("query", "target"),
    [(None, b"/v1?key=" + IN_URL), (b"", b"/v1?key=" + IN_URL), (b"key=x", b"/v1?key=" + IN_URL)],
)
def test_p9_a_query_of_nothing_else(query: bytes | None, target: bytes) -> None:
    assert Sent(QUERY).head(query=query).startswith(b"GET " + target + b" HTTP/1.1")


@pytest.mark.parametrize(
    ("query", "target"),
    [(None, b"/v1"), (b"", b"/v1?"), (b"sig=1", b"/v1"), (b"a&&=", b"/v1?a&&="), (b"a=%2f+&sig=1", b"/v1?a=%2f+")],
)
def test_p10_what_is_not_stripped_stays_byte_for_byte(query: bytes | None, target: bytes) -> None:
    assert Sent(stripQuery=["sig"]).head(query=query).startswith(b"GET " + target + b" HTTP/1.1")


def test_c3_a_scrubbed_websocket_has_no_extensions() -> None:
    lines = [b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Extensions: x", b"Sec-WebSocket-Key: y"]
    block = Sent(scrub=True).head(*lines, upgrade=b"websocket")
    assert b"Extensions" not in block
    assert b"Sec-WebSocket-Key: y\r\n" in block
    assert block.endswith(
        b"\r\nSec-WebSocket-Key: y\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Authorization: Bearer " + SECRET + b"\r\nAccept-Encoding: identity\r\n\r\n"
    )
    # Without an upgrade the field means nothing, and is nobody's to take out.
    assert b"Sec-WebSocket-Extensions: x\r\n" in Sent(scrub=True).head(*lines)


OVERRIDING = [
    b"X-HTTP-Method: DELETE",
    b"X-HTTP-Method-Override: DELETE",
    b"X_Method_Override: DELETE",
    b"x-original-url: /admin",
    b"X-Rewrite-URL: /admin",
]


def test_what_overrides_the_method_or_the_path_never_rides_along() -> None:
    # The plan was asked about the request line; a framework that acts on another would be asked behind its back.
    assert Sent().head(*OVERRIDING, b"X-Keep: kept") == (
        b"GET /v1 HTTP/1.1\r\nHost: api.example.com\r\nX-Keep: kept\r\nAuthorization: Bearer " + SECRET + b"\r\n\r\n"
    )


def test_keep_headers_lets_an_override_through_and_a_forward_all() -> None:
    block = Sent(keepHeaders=["X-Method-Override"]).head(*OVERRIDING, b"Authorization: foreign")
    assert [line for line in OVERRIDING if line in block] == [b"X_Method_Override: DELETE"]
    assert b"foreign" not in block
    assert all(line in forwarded(*OVERRIDING) for line in OVERRIDING)


def test_c3_a_scrubbed_route_asks_for_identity_once() -> None:
    block = Sent(scrub=True).head(b"Accept-Encoding: gzip", b"ACCEPT_ENCODING: br")
    assert [line for line in block.split(b"\r\n") if b"ncoding" in line.lower()] == [b"Accept-Encoding: identity"]


# --- placeholders -----------------------------------------------------------------------------------------------------

EVERYWHERE = [{"value": PLACEHOLDER.decode(), "in": ["header", "query", "path"]}]


def test_a_placeholder_is_replaced_in_every_part_the_route_names() -> None:
    block = Sent(placeholders=EVERYWHERE).head(
        b"X-A: k=" + PLACEHOLDER, path=b"/v1/" + PLACEHOLDER, query=b"a=" + PLACEHOLDER
    )
    assert block.startswith(b"GET /v1/" + IN_URL + b"?a=" + IN_URL + b" HTTP/1.1\r\n")
    assert b"\r\nX-A: k=" + SECRET + b"\r\n" in block
    assert PLACEHOLDER not in block


@pytest.mark.parametrize("part", ["header", "query", "path"])
@pytest.mark.parametrize("place", ["header", "query", "path", "name"])
def test_c5_c6_a_placeholder_in_another_part_is_refused(part: str, place: str) -> None:
    sent = Sent(placeholders=[{"value": PLACEHOLDER.decode(), "in": [part]}])
    lines = {"header": [b"X-A: " + PLACEHOLDER], "name": [PLACEHOLDER + b": a"]}.get(place, [])
    path = b"/" + PLACEHOLDER if place == "path" else b"/v1"
    query = PLACEHOLDER if place == "query" else None
    if place == part:
        assert PLACEHOLDER not in sent.head(*lines, path=path, query=query)
        return
    with pytest.raises(PlaceholderLeft):
        sent.head(*lines, path=path, query=query)


def test_c5_a_placeholder_of_another_route_is_refused() -> None:
    with pytest.raises(PlaceholderLeft):
        Sent(placeholders=EVERYWHERE).head(b"X-A: sp-placeholder-of-another")
    with pytest.raises(PlaceholderLeft):
        forwarded(b"X-A: sp-placeholder-of-another", table=Sent().table)
    with pytest.raises(PlaceholderLeft):
        forwarded(query=b"a=sp-placeholder-of-another", table=Sent().table)


@pytest.mark.parametrize(("path", "query"), [(b"/v1/%73p-placeholder-1", None), (b"/v1", b"a=sp%2Dplaceholder%2d1")])
def test_c5_a_placeholder_is_found_however_its_target_spells_it(path: bytes, query: bytes | None) -> None:
    assert PLACEHOLDER == b"sp-placeholder-1"
    for part in ("path", "query"):
        sent = Sent(placeholders=[{"value": PLACEHOLDER.decode(), "in": [part]}])
        if (part == "query") is (query is not None):
            assert b"placeholder" not in sent.head(path=path, query=query)
        else:
            with pytest.raises(PlaceholderLeft):
                sent.head(path=path, query=query)


def test_c5_a_placeholder_in_a_slot_that_is_removed_is_harmless() -> None:
    sent = Sent(stripQuery=["key"], placeholders=[{"value": PLACEHOLDER.decode(), "in": ["path"]}])
    block = sent.head(b"Authorization: Bearer " + PLACEHOLDER, b"Cookie: " + PLACEHOLDER, query=b"key=" + PLACEHOLDER)
    assert PLACEHOLDER not in block
    assert b"Authorization: Bearer " + SECRET in block


def test_c6_the_body_is_not_looked_at_and_nothing_else_is_rewritten() -> None:
    block = Sent(placeholders=EVERYWHERE).head(b"X-A: sp-placeholder-2", b"X-B: " + PLACEHOLDER[:-1])
    assert b"X-A: sp-placeholder-2\r\nX-B: sp-placeholder-\r\n" in block


def test_c6_a_placeholder_that_begins_with_another_is_replaced_whole() -> None:
    values = [{"value": "sp-place-1", "in": ["header"]}, {"value": "sp-place-12", "in": ["header"]}]
    block = Sent(placeholders=values).head(b"X-A: sp-place-12", b"X-B: sp-place-1")
    assert b"X-A: " + SECRET + b"\r\nX-B: " + SECRET + b"\r\n" in block


# --- what is written always reads back --------------------------------------------------------------------------------

LINES = st.sampled_from(
    [
        b"Authorization: Bearer foreign",
        b"AUTHORIZATION:foreign",
        b"X-Api-Key: foreign",
        b"X_API_KEY: foreign",
        b"X-Key: alien",
        b"x_key: alien",
        b"Cookie: foreign",
        b"Accept: */*",
        b"Accept-Encoding: gzip",
        b"X-A: " + PLACEHOLDER,
        b"X-B: caf\xe9",
        b"X-C:",
        b"Connection: close, x-key, authorization",
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Keep-Alive: 5",
        b"Proxy-Authorization: Basic foreign",
        b"Proxy-Connection: keep-alive",
        b"TE: trailers",
        b"Trailer: X-T",
        b"Content-Length: 5",
        b"Transfer-Encoding: chunked",
        b"Expect: 100-continue",
    ]
)
QUERIES = st.none() | st.lists(
    st.sampled_from([b"a=1", b"key=alien", b"%6Bey=alien", b"", b"k%65y", b"b=%2f", PLACEHOLDER]), max_size=4
).map(b"&".join)
AUTHS: Sequence[Mapping[str, object]] = (
    BEARER,
    {"type": "basic", "username": "u"},
    {"type": "header", "header": "X-Key", "prefix": "k "},
    QUERY,
)
ROUTES = [Sent(auth, scrub=scrub, placeholders=EVERYWHERE) for auth in AUTHS for scrub in (False, True)]


@given(
    st.sampled_from(ROUTES),
    st.sampled_from([b"GET", b"POST", b"DELETE", b"PROPFIND"]),
    st.lists(LINES, max_size=7),
    st.sampled_from([b"/", b"/v1/x", b"//", b"/%2F", b"/" + PLACEHOLDER]),
    QUERIES,
    st.sampled_from([None, b"websocket"]),
)
def test_s1_what_is_written_reads_back_with_one_host_and_one_credential(
    sent: Sent, method: bytes, lines: list[bytes], path: bytes, query: bytes | None, upgrade: bytes | None
) -> None:
    try:
        asked = parsed(*lines, method=method)
    except RemoteProtocolError:
        return
    block = sent.head(*lines, path=path, query=query, upgrade=upgrade, method=method)
    assert block.endswith(HEAD_END)
    assert block.index(HEAD_END) == len(block) - 4
    again = parse_request(block[:-4])
    theirs = read_head(block, 0)
    assert theirs is not None
    assert [again.method.encode(), theirs.method.encode()] == [method, method]
    assert again.target.partition(b"?")[0] == path.replace(PLACEHOLDER, IN_URL)
    assert (again.body, again.has_body) == (asked.body, asked.has_body)
    assert (theirs.framing.value == "chunked") == (asked.body == CHUNKED)
    assert theirs.host == "api.example.com"
    assert again.upgrade == upgrade
    assert again.proxy_authorization is None
    # One credential, in the route's slot; the sandbox's own is in none.
    assert b"foreign" not in block
    assert PLACEHOLDER not in block
    auth = sent.route.injection.type
    assert again.names.count(b"authorization") == (auth in ("bearer", "basic"))
    if auth == "header":
        assert again.names.count(b"x-key") == 1
        assert b"alien" not in b"".join(again.lines)
    elif auth == "query":
        assert again.target.endswith(b"key=" + IN_URL)
        assert b"alien" not in again.target
    kept = [line for line in asked.lines if line in (b"Accept: */*", b"X-B: caf\xe9", b"X-C:", b"Trailer: X-T")]
    assert [line for line in again.lines if line in kept] == kept
