"""Paths, targets and queries (P1 to P10) against a running gateway: by both ways, where TLS has ended and in the clear.

Opaque bytes have no path, so nothing here passes through.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.afterwards import AFTERWARDS
from tests.support.egress_stage import (
    ADDED_LINES,
    IDENTITY_LINE,
    ROUTE,
    SECRET,
    Case,
    Played,
    asks_inside,
    asks_plainly,
    of,
    play_all,
)
from tests.support.egress_ways import WAYS
from tests.support.figures import InTime, RecordProperty
from tests.support.plan_documents import Document

FIELDS = b" HTTP/1.1\r\nHost: {host}\r\n\r\n"


def put(
    target: bytes,
    status: int = 200,
    code: str = "",
    sent: bytes | None = None,
    *,
    name: str = "",
    method: bytes = b"GET",
    added: bytes = ADDED_LINES,
    closes: bool = False,
    routes: Sequence[Document] = (ROUTE,),
) -> list[Case]:
    """Put a target, which begins behind the authority, where TLS has ended and in the clear."""
    verb = method.decode()
    inside = asks_inside(method + b" " + target + FIELDS, method=verb, closes=closes)
    plain = asks_plainly(method + b" http://{host}" + target + FIELDS, method=verb, closes=closes)
    arriving = () if sent is None else (method + b" " + sent + b" HTTP/1.1\r\nHost: {host}\r\n" + added,)
    return [
        Case(
            name=f"{name}{verb} {target!r} {where}",
            play=play,
            status=status,
            code=code,
            sent=arriving,
            closes=closes,
            routes=routes,
        )
        for where, play in (("inside", inside), ("plain", plain))
    ]


def refused(*targets: bytes, routes: Sequence[Document] = (ROUTE,)) -> list[Case]:
    """Two readings, or none: 400, and the stream goes on."""
    return [case for target in targets for case in put(target, 400, "invalid_request", routes=routes)]


def unreadable(*targets: bytes) -> list[Case]:
    """The head itself cannot be read: 400, and the stream ends."""
    return [case for target in targets for case in put(target, 400, "invalid_request", closes=True)]


def unclaimed(*targets: bytes, routes: Sequence[Document] = (ROUTE,)) -> list[Case]:
    """One reading, and the plan allows it to nobody."""
    return [case for target in targets for case in put(target, 403, "denied_by_plan", routes=routes)]


def sent(*pairs: tuple[bytes, bytes], routes: Sequence[Document] = (ROUTE,)) -> list[Case]:
    """Sent on with the credential; each pair is the target that comes and the one that goes."""
    return [case for target, arriving in pairs for case in put(target, sent=arriving, routes=routes)]


def kept(*targets: bytes) -> list[Case]:
    """Sent on as they came."""
    return sent(*((target, target) for target in targets))


def on(**members: object) -> Sequence[Document]:
    """Return a route of the prefix /v1 with further members."""
    match = {"hosts": ["{host}"], "pathPrefixes": ["/v1"]}
    further = members.pop("match", {})
    assert isinstance(further, dict)
    return ({"match": match | further, "allowCleartext": True} | members,)


(NO_DELETE,) = on(match={"methods": ["DELETE"], "pathPrefixes": ["/v1/keys/1", "/v1/@acme"]})
P1 = [
    *refused(
        b"/v1/../admin",
        b"/v1/..",
        b"/v1/%2e%2e/admin",
        b"/v1/.%2e/admin",
        b"/v1/%2E./admin",
        b"/v1/x/../../admin",
        b"/v1/..%2fadmin",
        b"/v1%2f..%2fadmin",
        b"/v1/..;x/admin",
        b"/v1/..%3bx/admin",
        b"/v1/%2e",
    ),
    *kept(b"/v1/%252e%252e/admin", b"/v1/..a", b"/v1/...", b"/v1/.well-known"),
    *sent((b"/v1/%2ehidden", b"/v1/.hidden")),
]
P1 += refused(b"/v1/" + b"%7e" * 4097)  # S10
P2 = [*unclaimed(b"//v1/x", b"///v1"), *kept(b"/v1//x", b"/v1/x//"), *refused(b"/./v1", b"/v1/./x")]
P3 = [
    *refused(b"/v1/a\\b", b"/v1/a%5Cb", b"/v1/..%5cadmin", b"\\v1", b"/v1%2Fx", b"/v1%2fx"),
    *sent((b"/v1/a%2fb", b"/v1/a%2Fb")),
    *refused(b"/v1/public%2Fsecret", routes=[*on(), *on(match={"pathPrefixes": ["/v1/public/secret"]})]),
    *sent((b"/v1/group%2fproject", b"/v1/group%2Fproject"), routes=on(match={"encodedSlash": "literal"})),
    *refused(b"/v1/%40acme/x", b"/v1/%40acme%2Fx", routes=[*on(), *on(match={"pathPrefixes": ["/v1/@acme"]})]),
    *sent((b"/v1/%40other/x", b"/v1/%40other/x"), routes=[*on(), *on(match={"pathPrefixes": ["/v1/@acme"]})]),
    *(
        case
        for target in (b"/v1/keys%2F1", b"/v1/%40acme", b"/v1/%40acme%2F1")
        for case in put(target, 400, "invalid_request", method=b"delete", routes=[*on(), NO_DELETE])
    ),
    *unclaimed(b"/v1%2Fx%2f", routes=on(match={"hosts": ["{host}"], "pathPrefixes": ["/v2"]})),
]
P4 = [*unclaimed(b"/v1;a=b", b"/v1;/x"), *kept(b"/v1/x;jsessionid=1/y", b"/v1/;a"), *sent((b"/v1/x%3Ba", b"/v1/x%3Ba"))]
P5 = [
    *refused(b"/v1/%00", b"/v1/x%0d%0aHost:%20evil.test", b"/v1/%1f", b"/v1/%7f", b"/v1/%zz", b"/v1/%2"),
    *unreadable(
        b"/v1/a b",
        b"/v1/a\tb",
        b"/v1/a\rb",
        b"/v1/a\nb",
        b"/v1/a\x00b",
        b"/v1/a\x7fb",
        "/v1/ä".encode(),
        b"/v1/\xff",
        b"/v1?a=\x01",
        b"/v1?a=b c",
        b"/v1?a=\xe9",
    ),
    *sent((b"/v1/a%20b%E4", b"/v1/a%20b%E4"), (b"/v1/%61bc%e4", b"/v1/abc%E4")),
]
P6 = [
    *(
        Case(name=f"{authority!r} {where}", play=play, status=400, code="invalid_request")
        for authority in (b"user@{host}", b"user:secret@{host}", b"@{host}", b"{host}@evil.test", b"{host}%40evil.test")
        for where, play in (
            ("inside", asks_inside(b"GET https://" + authority + b"/v1" + FIELDS)),
            ("plain", asks_plainly(b"GET http://" + authority + b"/v1" + FIELDS)),
        )
    )
]
P7 = [
    *refused(b"/v1#fragment", b"/v1?a#b"),
    *put(b"", 403, "denied_by_plan", name="an empty path in the clear: ")[1:],
    *put(b"", 400, "invalid_request", name="an empty target: ", closes=True)[:1],
    *put(b"?a=b", 403, "denied_by_plan", name="a query alone: ")[1:],
    *(
        Case(
            name=f"{method!r} {target!r}",
            play=play(method + b" " + target + FIELDS),
            status=400,
            code="invalid_request",
        )
        for method, target in (
            (b"GET", b"v1/x"),
            (b"GET", b"*"),
            (b"OPTIONS", b"*"),
            (b"GET", b"{host}:443"),
            (b"GET", b"ftp://{host}/v1"),
            (b"GET", b"http:/{host}/v1"),
            (b"GET", b"http:///v1"),
        )
        for play in (asks_inside,)
    ),
    *(
        Case(
            name=f"in the clear {method!r} {target!r}",
            play=asks_plainly(method + b" " + target + FIELDS, closes=closes),
            status=400,
            code="invalid_request",
            closes=closes,
        )
        for method, target, closes in (
            (b"GET", b"/v1/x", True),
            (b"OPTIONS", b"*", False),
            (b"GET", b"https://{host}/v1", False),
            (b"GET", b"file:///etc/passwd", False),
        )
    ),
    Case(
        name="the absolute form of the host inside",
        play=asks_inside(b"GET HTTPS://{host}:443/v1/x?y" + FIELDS),
        status=200,
        sent=(b"GET /v1/x?y HTTP/1.1\r\nHost: {host}\r\n" + ADDED_LINES,),
    ),
]
P8 = [*unclaimed(b"/v1evil", b"/v1.", b"/v10", b"/V1/x", b"/v1%61", b"/"), *kept(b"/v1", b"/v1/", b"/v1/evil")]
BY_QUERY = on(authInjection={"type": "query", "parameter": "api_key"}, stripQuery=["legacy"])
P9 = [
    case
    for query, rest in (
        (b"?api_key=evil", b"?"),
        (b"?%61pi_key=evil&q=1", b"?q=1&"),
        (b"?q=1&api_key=evil&API_KEY=other", b"?q=1&"),
        (b"?api.key=evil&+api_key=evil&api+key=evil&api_key%00=evil&q=%00", b"?q=%00&"),
        (b"?api_key[]=evil&Api_Key%5Ba%5D=evil&[api_key]=evil&api[key=evil&q[]=1", b"?q[]=1&"),
        (b"?%u0061pi_key=evil&LEGACY[]=evil&api-key=1&api[key]=2", b"?api-key=1&api[key]=2&"),
        (b"?q=1;api_key=evil;%61%70i%5fkey=evil&r", b"?q=1&r&"),
        (b"?api_key&api_key=&legacy=x&le%67acy", b"?"),
        (b"?xapi_key=1&api_keyx=2", b"?xapi_key=1&api_keyx=2&"),
        (b"", b"?"),
        (b"?", b"?"),
    )
    for case in put(
        b"/v1" + query,
        name="by query: ",
        sent=b"/v1" + rest + b"api_key=" + SECRET.encode(),
        added=IDENTITY_LINE + b"\r\n",
        routes=BY_QUERY,
    )
]
# Each is looked at, and there is an end to that.
P9 += refused(b"/v1?" + b"&" * 1000, b"/v1?" + b"%61" * 4097, routes=BY_QUERY)
P10 = kept(
    b"/v1/x?X-Amz-Signature=a%2fb%2B&&=&x=%zz&y=%00&..%2f..",
    b"/v1?",
    b"/v1?a=/../b;c?d",
    b"/v1?a=\\&b=http://evil.test/",
    # Without an injected parameter none has another spelling.
    b"/v1?api_key=1&API_KEY=2&api.key=3&api_key[]=4&api_key%00=5",
)


def play(folder: Path, ways: Sequence[str] = WAYS) -> Played:
    """Play the suite."""
    return play_all(folder, [*P1, *P2, *P3, *P4, *P5, *P6, *P7, *P8, *P9, *P10], ways=ways)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    return play(tmp_path_factory.mktemp("paths"))


@of(P1)
def test_p1_no_spelling_climbs_out_of_a_prefix(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(P2)
def test_p2_an_empty_segment_is_one_wherever_it_is_read(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(P3)
def test_p3_what_may_be_read_as_a_slash(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(P4)
def test_p4_parameters_belong_to_their_segment(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(P5)
def test_p5_control_bytes_in_any_spelling_are_refused(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(P6)
def test_p6_userinfo_is_refused(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(P7)
def test_p7_every_form_of_target_has_an_answer(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(P8)
def test_p8_a_prefix_ends_with_its_segment(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(P9)
def test_p9_the_injected_parameter_is_the_only_one_of_its_name(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(P10)
def test_p10_any_other_query_goes_on_byte_for_byte(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@AFTERWARDS
def test_t6_a_plain_request_succeeds_after_each(
    played: Played, record_property: RecordProperty, in_time: InTime
) -> None:
    played.check_afterwards(record_property, in_time)


def test_nothing_happened_that_belongs_to_no_case(played: Played) -> None:
    played.check_the_whole()
