"""The same decisions inside another proxy: our gateway and mitmproxy with our addon, given the same bytes.

What the two share is the pure code; what they do not share is everything else: sockets, TLS, the reading of HTTP, the
order in which things are asked. So a difference is either a fault in one of our shells or stands in DIFFERENT, with its
reason. Compared are the answers (status and code) and each request at the origin, its head byte for byte.
"""

import asyncio
import gzip
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.flow.test_http_vectors import SUITES, read_vectors
from tests.support.gateway_plans import basic, header, plan, route
from tests.support.mitmproxy_process import need_mitmproxy
from tests.support.origin import Answer, Then
from tests.support.plan_documents import rule_document
from tests.support.two_gateways import Case, Outcome, two_gateways

type Both = Mapping[str, tuple[Outcome, Outcome]]

SECRET = "oracle-credential-7f3a9c+/="
OTHER_SECRET = "second-credential-51bb0e"
DOMAIN = "oracle.test"
API = f"api.{DOMAIN}"
PLACEHOLDER = "sk-placeholder-0000"


def numbered(suite: str, *numbers: int) -> tuple[str, ...]:
    return tuple(f"{suite}-{number}" for number in numbers)


# Cases whose outcomes differ, by reason. Every reason lies before or after the decision, in how mitmproxy reads and
# writes HTTP. An entry that no longer differs fails.
DIFFERENCES: Mapping[str, tuple[str, ...]] = {
    "mitmproxy answers Expect: 100-continue itself, and does not pass it on": ("Expect",),
    "mitmproxy words a link that cannot be had itself, without our code": ("an address",),
    "mitmproxy writes one space after a field's colon and none at the end, whatever stood there": (
        "fields of one hop",
        *numbered("llhttp", 106, 110),
        *numbered("guardian", 106, 107, 108, 109, 110),
    ),
    "mitmproxy takes a bare LF for a line end, and other white space for a space: the addon sees what it made of it": (
        *numbered("llhttp", 47, 50, 51, 59, 62, 63, 68, 69, 71, 73, 74, 117),
        *numbered("guardian", 146, 152),
    ),
    "mitmproxy takes no empty line before a request": numbered("llhttp", 72, 105, 114, 120),
    "mitmproxy reads on after a refusal, where we end a stream that cannot be trusted": numbered("llhttp", 64, 65),
    "mitmproxy sends a refusal when the request's body is whole, and here it never is": (
        *numbered("guardian", 26, 31, 34, 59, 60, 64, 65, 68, 74, 87, 121, 127, 128, 129, 130, 134, 135, 136, 138, 139),
        *numbered("guardian", 141),
        *numbered("smuggler", 46, 52),
    ),
    "mitmproxy ends a malformed body without an answer, reads more chunks, knows no trailers, cuts chunks anew": (
        numbered("llhttp", 129, 130, 131, 133, 134, 146, 147, 149, 150, 151, 152, 153, 154)
    ),
}
DIFFERENT = {name: reason for reason, names in DIFFERENCES.items() for name in names}
# Of the published requests so many get as far as the addon; with far fewer this would compare nothing.
COMPARED_AT_LEAST = 130


def on(host: str, request: str, *lines: str, body: str = "", port: int = 443, **further: Any) -> Case:  # noqa: ANN401  members of Case
    """Return a case inside TLS; `request` is its request line without the version, and its name."""
    name = further.pop("name", f"{request} @ {host}" + "".join(f" {line}" for line in lines))
    named = further.pop("host_field", host)
    head = [f"{request} HTTP/1.1", f"Host: {named}", f"X-Case: {name}", *lines, "", body]
    return Case(name=name, data="\r\n".join(head).encode("latin-1"), connect=f"{host}:{port}", **further)


def coded(coding: str, body: bytes | None = None, *, status: int = 200, name: str = "Content-Encoding") -> Answer:
    body = gzip.compress(SECRET.encode()) if body is None else body
    head = f"HTTP/1.1 {status} OK\r\n{name}: {coding}\r\nContent-Length: {len(body)}\r\n\r\n"
    return Answer(parts=(head.encode() + body,), then=Then.CLOSE)


def plainly(url: str, *lines: str, token: bool = True, name: str = "", host_field: str = "") -> Case:
    """Return a case as a plain proxy request."""
    name = name or f"plain {url}"
    named = host_field or url.partition("://")[2].partition("/")[0]
    shown = ["Proxy-Authorization: Bearer %TOKEN%"] if token else []
    head = [f"GET {url} HTTP/1.1", f"Host: {named}", f"X-Case: {name}", *shown, *lines, "", ""]
    return Case(name=name, data="\r\n".join(head).encode("latin-1"), connect=None)


# The table of contracts section 1, whose route has the prefix /v1 and the method GET.
TABLE = [
    on(API, "GET /v1"),
    on(API, "GET /v1/x"),
    on(API, "GET /v1?a=/.."),
    on(API, "GET /v1/%61bc"),
    on(API, "GET /v10/x"),
    on(API, "GET //v1/x"),
    on(API, "GET /V1/x"),
    on(API, "get /v1"),
    on(API, "GET /v1/../admin"),
    on(API, "GET /v1/%2e%2e/admin"),
    on(API, "GET /v1/x\\y"),
    on(API, "GET /v1/x%5Cy"),
    on(API, "GET /v1/%00"),
    on(API, "GET /v1/a%2Fb"),
    on(API, "GET /v1%2Fx"),
    on(API, "GET /v1/x", host_field=f"{API}:443", name="Host with its port"),
    on(API, "GET /v1/x", host_field=API.upper(), name="Host in capitals"),
    on(API, "GET /v1/x", host_field=f"{API}.", name="Host with a dot"),
    on(API, "GET /v1/x", host_field=f"{API}:8443", name="Host with another port"),
    on(API, "GET /v1/x", host_field=f"other.{DOMAIN}", name="Host of another"),
    on(API, f"GET https://other.{DOMAIN}/v1/x", name="absolute form of another host"),
    on(API, f"GET https://{API}/v1/x", name="absolute form of this host"),
    on(API, "GET /v1/x", connect_host=f"other.{DOMAIN}", name="CONNECT with the Host of another"),
    on(API, "POST /v1/x", "Content-Length: 5", body="hello"),
    on(API, "TRACE /v1/x"),
    on(API, "GET /v1/x", "Transfer-Encoding: chunked", body="5\r\nhello\r\n0\r\n\r\n", name="chunked"),
    plainly(f"http://{API}/v1/x"),
    plainly(f"http://{API}/v10/x"),
    plainly(f"http://open.{DOMAIN}/x?y=1"),
    plainly(f"http://open.{DOMAIN}/x", token=False, name="no token"),
    plainly(f"http://open.{DOMAIN}/x", "Proxy-Authorization: Bearer a.b.c", token=False, name="no good token"),
    plainly(f"http://open.{DOMAIN}/x", host_field=API, name="plain with the Host of another"),
    plainly(f"https://{API}/v1/x", name="https in the clear"),
]

# One host to each kind of thing that a plan can say.
ROUTES = [
    route("table", [API], "con_one", match={"hosts": [API], "pathPrefixes": ["/v1"], "methods": ["GET"]}),
    route("basic", [f"basic.{DOMAIN}"], "con_one", basic("user")),
    route("header", [f"header.{DOMAIN}"], "con_one", header("X-Key")),
    route("prefix", [f"prefix.{DOMAIN}"], "con_one", {"type": "header", "header": "Authorization", "prefix": "token "}),
    route("query", [f"query.{DOMAIN}"], "con_one", {"type": "query", "parameter": "key"}, stripQuery=["old"]),
    route(
        "placeholder",
        [f"placeholder.{DOMAIN}"],
        "con_one",
        header("X-Key"),
        placeholders=[{"value": PLACEHOLDER, "in": ["header", "path", "query"]}],
    ),
    route("keep", [f"keep.{DOMAIN}"], "con_one", header("X-Key"), keepHeaders=["Cookie"]),
    route(
        "more",
        [f"more.{DOMAIN}"],
        "con_one",
        additionalHeaders={"X-Static": "yes"},
        additionalCredentialHeaders=[
            {
                "header": "X-Second",
                "credentialResolver": {
                    "kind": "integration_connection",
                    "connectionId": "con_two",
                    "secretType": "api_key",
                },
            }
        ],
    ),
    route("moved", [f"moved.{DOMAIN}"], "con_one", upstream={"baseUrl": f"https://elsewhere.{DOMAIN}"}),
    route("limited", [f"limited.{DOMAIN}"], "con_one", limits={"maxRequestBodyBytes": 8}),
    route("cleartext", [f"cleartext.{DOMAIN}"], "con_one", allowCleartext=True),
    route(
        "slashes", [f"slashes.{DOMAIN}"], "con_one", match={"hosts": [f"slashes.{DOMAIN}"], "encodedSlash": "literal"}
    ),
    route("missing", [f"missing.{DOMAIN}"], "con_missing"),
    route("wild", [f"*.wild.{DOMAIN}"], "con_one"),
]
RULES = [
    rule_document("no-admin", "deny", f"basic.{DOMAIN}", pathPrefixes=["/admin"], reason="not for agents"),
    rule_document("no-host", "deny", f"denied.{DOMAIN}", reason="not at all"),
    rule_document("get-only", "allow", f"rules.{DOMAIN}", methods=["GET"]),
    rule_document("no-rest", "deny", f"rules.{DOMAIN}", methods=["POST", "PUT"]),
]
MINE = "Authorization: Bearer mine"
OF_PLANS = [
    on(f"basic.{DOMAIN}", "GET /x", MINE, "X-Api-Key: mine", "Accept: */*"),
    on(f"basic.{DOMAIN}", "GET /admin/x"),
    on(f"basic.{DOMAIN}", "POST /x", "Content-Length: 5", "Accept-Encoding: gzip", body="hello"),
    on(f"basic.{DOMAIN}", "GET /x", "X-HTTP-Method-Override: DELETE", "authorization: mine", "AUTHORIZATION: mine"),
    on(
        f"header.{DOMAIN}",
        "GET /x",
        "x_key: mine",
        "X-Key: mine",
        "Cookie: a=b",
        "Connection: X-Named",
        "X-Named: gone",
    ),
    on(f"prefix.{DOMAIN}", "GET /x", MINE),
    on(f"query.{DOMAIN}", "GET /x"),
    on(f"query.{DOMAIN}", "GET /x?key=mine&a=%20b&ke%79=mine;old=1&z"),
    on(f"query.{DOMAIN}", "GET /x?"),
    on(
        f"placeholder.{DOMAIN}",
        f"GET /bot{PLACEHOLDER}/send?k={PLACEHOLDER}",
        f"X-Key: {PLACEHOLDER}",
        "X-Other: 1",
        name="replaced",
    ),
    on(f"placeholder.{DOMAIN}", "GET /x", f"X-Other: {PLACEHOLDER}", "Content-Length: 0", name="replaced in a header"),
    on(f"keep.{DOMAIN}", "GET /x", f"X-Left: {PLACEHOLDER}", name="left on another route"),
    on(f"keep.{DOMAIN}", "GET /x", "Cookie: a=b", MINE),
    on(f"more.{DOMAIN}", "GET /x", "X-Second: mine", "X-Static: no"),
    on(f"moved.{DOMAIN}", "GET /x?y"),
    on(f"limited.{DOMAIN}", "POST /x", "Content-Length: 8", body="12345678"),
    on(f"limited.{DOMAIN}", "POST /x", "Content-Length: 9", body="123456789"),
    on(f"limited.{DOMAIN}", "POST /x", "Transfer-Encoding: chunked", body="4\r\n1234\r\n0\r\n\r\n"),
    on(f"limited.{DOMAIN}", "POST /x", "Transfer-Encoding: chunked", body="9\r\n123456789\r\n0\r\n\r\n", name="chunks"),
    on(f"slashes.{DOMAIN}", "GET /a%2fb/%7Ec"),
    on(f"missing.{DOMAIN}", "GET /x"),
    on(f"a.wild.{DOMAIN}", "GET /x"),
    on(f"denied.{DOMAIN}", "GET /x"),
    on(f"rules.{DOMAIN}", "GET /x", MINE, "Cookie: a=b"),
    on(f"rules.{DOMAIN}", "POST /x", "Content-Length: 0"),
    on(f"rules.{DOMAIN}", "GET /x", f"X-Left: {PLACEHOLDER}", name="left on no route"),
    on(f"rules.{DOMAIN}", "PATCH /x", "Content-Length: 2", body="ab"),
    on(f"keep.{DOMAIN}", "GET /x", "Expect: 100-continue", "Content-Length: 2", body="ab", name="Expect"),
    on(f"keep.{DOMAIN}", "GET /x", "Expect: something"),
    on(f"keep.{DOMAIN}", "GET /x", "Sallyport-Stream: plain"),
    on(
        f"keep.{DOMAIN}",
        "GET /x",
        "Proxy-Foo: 1",
        "TE: trailers",
        "Keep-Alive: 5",
        "X-Spaced:   a  b  ",
        name="fields of one hop",
    ),
    on(f"keep.{DOMAIN}", "GET /x#fragment"),
    on(f"keep.{DOMAIN}", "OPTIONS *"),
    plainly(f"http://cleartext.{DOMAIN}/x", MINE),
    plainly(f"http://denied.{DOMAIN}/x"),
    plainly("http://127.0.0.1:1/x", name="an address"),
    plainly("http://10.0.0.1/x", name="a private address"),
    plainly("http://169.254.169.254/x", name="a metadata address"),
    plainly("http://127.0.0.1:%PORT%/x", name="the proxy itself"),
    plainly("http://localhost:%PORT%/x", name="the proxy itself, by a name"),
]
# Answers that hold the credential, in a coding that nobody has asked for.
CODED = {
    "/gzip": coded("gzip"),
    "/gzip-twin": coded("x-gzip", name="Content_Encoding"),
    "/gzip-part": coded("gzip", status=206),
    "/gzip-twice": coded("gzip, gzip"),
    "/br": coded("br"),
    "/identity": coded("identity", SECRET.encode()),
}
OF_ANSWERS = [
    *(on(f"keep.{DOMAIN}", f"{method} {target}") for target in CODED for method in ("GET", "HEAD")),
    on(f"open.{DOMAIN}", "GET /gzip"),
]
HOSTS = sorted(
    {
        *(case.connect.partition(":")[0] for case in (*TABLE, *OF_PLANS) if case.connect is not None),
        *(f"{name}.{DOMAIN}" for name in ("api", "open", "other", "elsewhere", "cleartext", "denied")),
    }
)


def of_corpora() -> list[Case]:
    """Return the published requests, each on a host of its own, as tests/flow/test_http_vectors.py sends them."""
    return [
        Case(
            name=vector.name,
            data=vector.request_bytes(),
            connect=f"{vector.host}:443",
            own_host=True,
            answers=max(1, vector.request_bytes().count(b" HTTP/1.1\r\n")),
        )
        for suite in SUITES
        for vector in read_vectors(suite)
    ]


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> Both:
    """Send the table and what plans can say through both."""
    need_mitmproxy()
    return asyncio.run(_decide(tmp_path_factory.mktemp("oracle"), [*TABLE, *OF_PLANS, *OF_ANSWERS], HOSTS))


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory, corpus: Callable[[str], Any]) -> Both:
    """Send the published requests through both."""
    need_mitmproxy()
    cases = of_corpora()
    if not cases:
        corpus(next(iter(SUITES.values())))  # skips, naming the file
    hosts = [case.connect.partition(":")[0] for case in cases if case.connect is not None]
    return asyncio.run(_decide(tmp_path_factory.mktemp("vectors"), cases, hosts))


@pytest.mark.parametrize("case", [*TABLE, *OF_PLANS], ids=str)
def test_a_decision_is_the_same(case: Case, decided: Both) -> None:
    _compare(case, *decided[case.name])


@pytest.mark.parametrize("case", OF_ANSWERS, ids=str)
def test_an_answer_is_read_the_same(case: Case, decided: Both) -> None:
    _compare(case, *decided[case.name])
    for outcome in decided[case.name]:
        assert SECRET.encode() not in outcome.received


@pytest.mark.full
@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", of_corpora(), ids=str)
def test_a_published_request_ends_the_same(case: Case, vectors: Both) -> None:
    ours, theirs = vectors[case.name]
    for received, _ in theirs.sent:
        head = received.partition(b"\r\n\r\n")[0] + b"\r\n"
        assert head.count(b"\r\nAuthorization: ") == head.count(f"\r\nAuthorization: Bearer {SECRET}\r\n".encode()) == 1
        assert head.count(f"\r\nHost: {case.name}.vectors.test\r\n".encode()) == 1
    if not theirs.is_refused_by_mitmproxy:
        _compare(case, ours, theirs)


@pytest.mark.full
def test_enough_published_requests_get_as_far_as_the_addon(vectors: Both) -> None:
    compared = [name for name, (_, theirs) in vectors.items() if not theirs.is_refused_by_mitmproxy]
    assert len(set(compared) - DIFFERENT.keys()) >= COMPARED_AT_LEAST


def test_the_table_names_known_cases() -> None:
    published = {case.name for case in of_corpora()}
    if published:
        assert DIFFERENT.keys() <= published | {case.name for case in (*TABLE, *OF_PLANS)}


def test_the_cases_have_names_of_their_own() -> None:
    names = [case.name for case in (*TABLE, *OF_PLANS, *OF_ANSWERS)]
    assert len(names) == len(set(names))


def _compare(case: Case, ours: Outcome, theirs: Outcome) -> None:
    reason = DIFFERENT.get(case.name)
    if reason is not None:
        assert theirs != ours, f"no longer different: {reason}"
        return
    assert theirs.answers == ours.answers
    assert theirs.sent == ours.sent


async def _decide(folder: Path, cases: Iterable[Case], hosts: list[str]) -> Both:
    listed = list(cases)
    routes = [*ROUTES, route("vectors", ["*.vectors.test"], "con_one")]
    async with (
        two_gateways(
            folder,
            plan=plan(routes, RULES, default="passthrough"),
            credentials={"con_one": SECRET, "con_two": OTHER_SECRET},
            hosts=hosts,
            names=["*.vectors.test", f"*.{DOMAIN}", f"*.wild.{DOMAIN}"],
            scripts=CODED,
        ) as (gateway, mitmproxy),
        asyncio.TaskGroup() as tasks,
    ):
        ours = tasks.create_task(gateway.outcomes(listed), name="our gateway")
        theirs = tasks.create_task(mitmproxy.outcomes(listed), name="mitmproxy")
    return {case.name: (ours.result()[case.name], theirs.result()[case.name]) for case in listed}
