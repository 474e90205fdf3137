"""What a hostile sandboxd may say of its streams, against a running gateway: it gains nothing by any of it.

The explicit listener has no such field, so there every `Sallyport-*` is refused.
"""

from collections.abc import Sequence

import pytest

from tests.support.afterwards import AFTERWARDS
from tests.support.egress_stage import (
    ADDED_LINES,
    ALLOWED,
    OTHER_PORT,
    Case,
    Play,
    Played,
    Scene,
    asks_inside,
    asks_plainly,
    of,
    play_all,
)
from tests.support.egress_ways import TunnelWay, established
from tests.support.figures import InTime, RecordProperty
from tests.support.plan_documents import Document

HOST = b"Host: {host}\r\n"
CONNECT = b"CONNECT {host}:443 HTTP/1.1\r\n"
OTHER_CONNECT = b"CONNECT {host}:%d HTTP/1.1\r\n" % OTHER_PORT
GET = b"GET http://{host}/v1/x HTTP/1.1\r\n"
ARRIVED = b"GET /v1/x HTTP/1.1\r\n" + HOST + ADDED_LINES
TUNNEL = ("tunnel",)


def declare(*values: bytes) -> bytes:
    return b"".join(b"Sallyport-Stream: " + value + b"\r\n" for value in values)


def begins_with(head: bytes) -> Play:
    """Open a stream with these bytes, and read the answer that ends it."""

    async def play(scene: Scene) -> None:
        assert isinstance(scene.way, TunnelWay)
        end = scene.way.client.open()
        end.send(scene.fill(head))
        await scene.read_last(end)

    return play


def refused(head: bytes, status: int = 400, code: str = "invalid_request", rules: Sequence[Document] = ()) -> Case:
    return Case(
        name=f"{head!r} {status}",
        play=begins_with(head + b"\r\n"),
        status=status,
        code=code,
        closes=True,
        ways=TUNNEL,
        rules=rules,
    )


# A later head of a stream, and any head of the explicit listener, has no such field in any spelling.
OURS = [
    case
    for line in (b"Sallyport-Stream: plain; revision=1", b"SALLYPORT_STREAM: x", b"sallyport-anything: y")
    for case in (
        Case(
            name=f"inside {line!r}",
            play=asks_inside(b"GET /v1/x HTTP/1.1\r\n" + HOST + line + b"\r\n\r\n", closes=True),
            status=400,
            code="invalid_request",
            closes=True,
        ),
        Case(
            name=f"first {line!r}",
            play=asks_plainly(GET + HOST + line + b"\r\n\r\n", closes=True),
            status=400,
            code="invalid_request",
            closes=True,
        ),
    )
]


def then(second: bytes) -> Case:
    """A good first request in the clear, and a head that is not one of a sandbox behind it."""

    async def play(scene: Scene) -> None:
        assert isinstance(scene.way, TunnelWay)
        end = scene.way.client.ask(scene.fill(GET + HOST + b"\r\n"))
        await scene.read(end)
        end.send(scene.fill(second + HOST + b"\r\n"))
        await scene.read_last(end)

    return Case(
        name=f"then {second!r}",
        play=play,
        status=400,
        code="invalid_request",
        sent=(ARRIVED,),
        audited=[(200, None), (400, "invalid_request")],
        closes=True,
        ways=TUNNEL,
    )


LATER = [
    then(GET + declare(b"plain; revision=1")),
    then(CONNECT),
    then(CONNECT + declare(b"intercepted; revision=1")),
    then(b"CONNECT endpoint/one/two HTTP/1.1\r\n"),
]
FIRST = [
    *(
        refused(line + HOST + declare(*values))
        for line, mode in ((CONNECT, b"intercepted"), (GET, b"plain"))
        for values in (
            (),
            (mode + b"; revision=1", mode + b"; revision=1"),
            (mode + b"; revision=1", b"passthrough; revision=1"),
            (b"",),
            (mode,),
            (mode + b"; revision=0",),
            (mode + b"; revision=-1",),
            (mode + b"; revision=01",),
            (mode + b"; revision=" + b"9" * 17,),
            (mode + b"; revision=1; revision=1",),
            (mode + b"; revision=1; verbatim",),
            (mode + b";revision=1",),
            (mode.upper() + b"; revision=1",),
            (b"bypass; revision=1",),
            (mode + b"; revision=1, passthrough; revision=1",),
            (mode + b"; revision=\xb2",),
        )
    ),
    *(
        refused(line + HOST + declare(value))
        for line, value in (
            (CONNECT, b"plain; revision=1"),
            (GET, b"intercepted; revision=1"),
            (GET, b"passthrough; revision=1"),
            (GET, b"plain; revision=1; cleartext"),
            (CONNECT, b"passthrough; revision=1; cleartext"),
        )
    ),
    refused(CONNECT + HOST + b"Sallyport_Stream: intercepted; revision=1\r\n"),
    refused(CONNECT + HOST + b"Sallyport-Stream : intercepted; revision=1\r\n"),
    refused(CONNECT + HOST + declare(b"intercepted; revision=1") + b" folded\r\n"),
    refused(CONNECT + HOST + b"X: y\nSallyport-Stream: intercepted; revision=1\r\n"),
    refused(CONNECT + HOST + declare(b"intercepted; revision=1") + b"Sallyport_Stream: passthrough; revision=1\r\n"),
    refused(CONNECT + HOST + declare(b"intercepted; revision=1") + b"Content-Length: 5\r\n"),
    refused(CONNECT + HOST + declare(b"intercepted; revision=1") + b"Transfer-Encoding: chunked\r\n"),
    *(
        refused(b"CONNECT " + target + b" HTTP/1.1\r\n" + HOST + declare(value))
        for target in (b"endpoint/client/key", b"mcp/server", b"setup/1", b"endpoint/client/key:443")
        for value in (b"intercepted; revision=1", b"passthrough; revision=1")
    ),
    refused(b"GET /v1/ca.pem HTTP/1.1\r\n" + HOST + declare(b"plain; revision=1")),
    refused(b"GET /healthz HTTP/1.1\r\n" + HOST + declare(b"plain; revision=1")),
]
# The revision is believed only where it changes nothing; where the two sets differ the stream is opened again.
REVISIONS = [
    refused(OTHER_CONNECT + HOST + declare(b"intercepted; revision=1"), rules=ALLOWED),
    refused(OTHER_CONNECT + HOST + declare(b"intercepted; revision=2"), 421, "stale_interception", rules=ALLOWED),
    refused(CONNECT + HOST + declare(b"passthrough; revision=2"), 421, "stale_interception"),
    refused(CONNECT + HOST + declare(b"passthrough; revision=9007199254740991"), 421, "stale_interception"),
    refused(CONNECT + HOST + declare(b"passthrough; revision=1"), 403, "denied_by_plan"),
    refused(CONNECT + HOST + declare(b"passthrough; revision=1") + b"X: 1\r\n", 403, "denied_by_plan", rules=ALLOWED),
    refused(OTHER_CONNECT + HOST + declare(b"passthrough; revision=7"), 403, "denied_by_plan"),
]


async def says_another_revision(scene: Scene) -> None:
    end = await scene.connect(CONNECT + HOST + b"\r\n", "intercepted; revision=77")
    await established(end)
    end.send(scene.fill(b"GET /v1/x HTTP/1.1\r\n" + HOST + b"\r\n"))
    await scene.read(end)


async def does_not_wait(scene: Scene) -> None:
    """Bytes before the 200 are served once it is sent, and not before."""
    await_answer = await scene.connect(
        CONNECT + HOST + b"\r\nGET /v1/x HTTP/1.1\r\n" + HOST + b"\r\n", "intercepted; revision=1"
    )
    await established(await_answer)
    await scene.read(await_answer)


async def sends_tls_where_it_says_there_is_none(scene: Scene) -> None:
    """A sandboxd that does not end TLS: its bytes are no request, and nothing of them goes on."""
    end = await scene.way.inside(f"{scene.host}:443", scene.host)
    end.send(b"\x16\x03\x01\x00\x05hello\r\n\r\n")
    await scene.read_last(end)


BELIEVED = [
    Case(name="another revision of the same set", play=says_another_revision, status=200, sent=(ARRIVED,), ways=TUNNEL),
    Case(name="bytes before the 200", play=does_not_wait, status=200, sent=(ARRIVED,), ways=TUNNEL),
    Case(
        name="TLS where it was to end",
        play=sends_tls_where_it_says_there_is_none,
        status=400,
        code="invalid_request",
        closes=True,
        ways=TUNNEL,
    ),
]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    return play_all(tmp_path_factory.mktemp("declarations"), [*OURS, *LATER, *FIRST, *REVISIONS, *BELIEVED])


@of(OURS)
def test_a_sandbox_says_nothing_in_our_name(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(LATER)
def test_a_later_head_declares_nothing(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(FIRST)
def test_a_first_head_declares_one_thing_once(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(REVISIONS)
def test_a_mode_is_the_gateway_s_to_choose(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(BELIEVED)
def test_what_a_sandboxd_may_do(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@AFTERWARDS
def test_t6_a_plain_request_succeeds_after_each(
    played: Played, record_property: RecordProperty, in_time: InTime
) -> None:
    played.check_afterwards(record_property, in_time)


def test_nothing_happened_that_belongs_to_no_case(played: Played) -> None:
    played.check_the_whole()
