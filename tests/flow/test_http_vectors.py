"""Published request vectors, byte for byte, to an origin that records every byte: by the explicit listener, and by a
tunnel.

Promise: nothing ambiguous reaches an origin. For each vector, every byte the origin received parses strictly (by
`tests.support.strict_http`, which shares nothing with the gateway) as exactly the requests the gateway audited as
sent on; no second request hides in a body; and what is well formed and not refused by a rule of ours arrives.

Each vector speaks to a host of its own, so its links, its audit records and its answers cannot be mistaken for
another's. Of a vector only the Host header is replaced, or added where there is none.
"""

import asyncio
import base64
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from demo.certificates import write_origin_files
from tests.conftest import CORPORA
from tests.support.afterwards import AFTERWARDS, Afterwards, ask_afterwards, check_time
from tests.support.egress_ways import WAYS, Way, both_ways
from tests.support.figures import InTime, RecordProperty
from tests.support.gateway_plans import plan, route
from tests.support.gateway_process import Setting, gateway_process
from tests.support.origin import Link, RecordingOrigin, recording_origin
from tests.support.raw_end import RawEnd
from tests.support.strict_http import Head, Malformed, read_all, read_head, read_request

SUITES = {
    "llhttp": "llhttp_requests.json",
    "guardian": "http_desync_guardian.json",
    "smuggler": "smuggler_default.json",
}
SECRET = "vector-credential-7f3a9c"
PLAIN_HOST = "plain.vectors.test"
AT_ONCE = 8
# Once every head of a vector has arrived or been refused, this long without a byte means nothing more will come.
QUIET_SECONDS = 0.15
# And this long, that a stream which should close was kept open: the gateway may be busy.
CLOSED_SECONDS = 3.0
WHOLE_SECONDS = 30.0

# Says of what was answered so far how long a quiet after it means the end; None: there is more to come.
type QuietEnough = Callable[[bytes], float | None]

# Vectors labelled well formed that do not arrive, each with the rule that refuses them or the reason nothing can
# arrive. Names are "<suite>-<number in its file>".
NOT_ARRIVING: dict[str, str] = {
    "llhttp-29": "S4: HTTP/1.0",
    "llhttp-40": "S10: the head never ends",
    "llhttp-41": "S10: the head never ends",
    "llhttp-80": "P7: * with a method that is not OPTIONS",
    "llhttp-87": "S4: a protocol that is not HTTP/1.1",
    "llhttp-88": "S4: a protocol that is not HTTP/1.1",
    "llhttp-89": "S4: a protocol that is not HTTP/1.1",
    "llhttp-113": "S4: HTTP/1.0",
    "llhttp-115": "S4: HTTP/0.9",
    "llhttp-129": "S2: a field that may not be a trailer",
    "llhttp-143": "P7: a fragment in the target",
    "llhttp-144": "P7: a fragment in the target",
    "llhttp-157": "A1: the absolute form names another host than the CONNECT",
    "llhttp-158": "A1: the absolute form names another host than the CONNECT",
    "llhttp-160": "A1: the absolute form names another host than the CONNECT",
    "llhttp-162": "P7: a fragment in the target",
    "llhttp-164": "P6: userinfo in the target",
    "guardian-74": "S1: a transfer coding beside chunked, which origins read differently",
    "guardian-76": "S1: identity, which RFC 9112 has removed",
    "guardian-77": "S1: Transfer-Encoding more than once",
    "guardian-78": "S1: chunked has no parameters",
    "guardian-111": "S1: Transfer-Encoding more than once",
    "guardian-112": "S1: a transfer coding beside chunked, which origins read differently",
    "guardian-113": "S1: Transfer-Encoding more than once",
    "guardian-114": "P7: a fragment in the target",
    "guardian-116": "P7: an empty target",
    "guardian-155": "contracts 1: %00-%1F in the path of an intercepted host",
    "guardian-157": "contracts 1: %00-%1F in the path of an intercepted host",
    "guardian-158": "contracts 1: %00-%1F in the path of an intercepted host",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """One published case; `well_formed` is what its suite says of it."""

    suite: str
    number: int
    title: str
    raw: bytes
    well_formed: bool

    @property
    def name(self) -> str:
        return f"{self.suite}-{self.number}"

    @property
    def host(self) -> str:
        return f"{self.name}.vectors.test"

    def request_bytes(self) -> bytes:
        """Return the vector with its Host replaced or added; further requests of a well-formed one get theirs too."""
        return _with_host(self.raw, self.host.encode(), every_request=self.well_formed)

    def __str__(self) -> str:
        return f"{self.name}: {self.title}"


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What came of one vector."""

    answers: bytes = b""
    closed: bool = False
    afterwards: Afterwards[bytes] = field(init=False)
    links: Sequence[Link] = ()
    audited: Sequence[dict[str, Any]] = ()


@pytest.fixture(scope="module", params=WAYS)
def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, corpus: Callable[[str], Any]
) -> dict[str, Outcome]:
    """Send every vector once, a few at a time, through one gateway."""
    vectors = [vector for suite in SUITES for vector in read_vectors(suite)]
    if not vectors:
        corpus(next(iter(SUITES.values())))  # skips, naming the file
    return asyncio.run(_send_all(tmp_path_factory.mktemp("vectors"), vectors, way=request.param))


@cache
def read_vectors(suite: str) -> tuple[Vector, ...]:
    """Read one suite; empty where its file is absent."""
    path = CORPORA / SUITES[suite]
    if not path.exists():
        return ()
    return tuple(
        Vector(
            suite=suite,
            number=number,
            title=case["name"],
            raw=base64.b64decode(case["raw_b64"]),
            well_formed=_is_well_formed(case),
        )
        for number, case in enumerate(json.loads(path.read_bytes()))
    )


def _is_well_formed(case: dict[str, Any]) -> bool:
    if case["suite"] == "llhttp":
        # "ok" under a lenient flag says what that flag lets through, not that it is well formed.
        return case["expect"] == "ok" and "lenient" not in case["meta"]["type"]
    return bool(case["expect"] == "Compliant")


def named(suite: str) -> list[Any]:
    """Return the parameters of one suite, or one that is skipped with the name of the file that is not here."""
    found = [pytest.param(vector, id=f"{vector.name}-{vector.title}") for vector in read_vectors(suite)]
    absent = pytest.mark.skip(reason=f"vectors not here: {SUITES[suite]} (SALLYPORT_CORPORA names their folder)")
    return found or [pytest.param(None, id=suite, marks=absent)]


every_vector = pytest.mark.parametrize("vector", [case for suite in SUITES for case in named(suite)])


@pytest.mark.counted("vectors", "forwarded ambiguously")
@every_vector
def test_nothing_ambiguous_reaches_the_origin(vector: Vector, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[vector.name]
    received: list[tuple[str, str]] = []
    for link in outcome.links:
        try:
            reading = read_all(bytes(link.received))
        except Malformed as fault:
            pytest.fail(f"{vector} reached the origin as {bytes(link.received)!r}: {fault}")
        assert reading.rest == b"", f"{vector}: half a head reached the origin: {reading.rest!r}"
        for head in reading.heads():
            assert head.host == vector.host
            assert head.values("authorization") == [f"Bearer {SECRET}".encode()]
            received.append((head.method, head.target.partition("?")[0]))
    audited = [(entry["method"], entry["path"]) for entry in outcome.audited if _was_sent(entry)]
    assert sorted(received) == sorted(audited)
    assert "/smuggled" not in {path for _, path in received}


@every_vector
def test_what_is_refused_is_answered_audited_and_closed(vector: Vector, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[vector.name]
    refused = [entry["status"] for entry in outcome.audited if "code" in entry]
    answered = [int(status) for status in re.findall(rb"HTTP/1\.1 ([45]\d\d) [^\r]*\r\n", outcome.answers)]
    assert answered == refused
    assert set(refused) <= {400, 405, 421, 431, 505}
    assert outcome.answers.count(b"X-Sallyport-Error: ") == len(refused)
    if refused and _is_malformed(vector.request_bytes()):
        assert outcome.closed, "a stream that cannot be trusted any more was kept open"
    if b"\r\n\r\n" in vector.raw.lstrip(b"\r\n"):
        assert outcome.audited, "a whole head was neither sent on nor refused"


@AFTERWARDS
@every_vector
def test_t6_a_plain_request_succeeds_afterwards(
    vector: Vector, outcomes: dict[str, Outcome], record_property: RecordProperty, in_time: InTime
) -> None:
    afterwards = outcomes[vector.name].afterwards
    assert afterwards.fault is None
    assert afterwards.answer is not None
    assert afterwards.answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert afterwards.answer.endswith(b"\r\n\r\nok")
    check_time([afterwards], record_property, in_time)


@pytest.mark.parametrize(
    "vector",
    [case for case in named("llhttp") + named("guardian") if case.values[0] is None or case.values[0].well_formed],
)
def test_what_is_well_formed_arrives(vector: Vector, outcomes: dict[str, Outcome]) -> None:
    arrived = [head for link in outcomes[vector.name].links for head in read_all(bytes(link.received)).heads()]
    reason = NOT_ARRIVING.get(vector.name)
    if reason is not None:
        assert arrived == [], f"{vector} arrives, although the table says: {reason}"
        return
    assert [(head.method, head.target) for head in arrived] == [
        (head.method, head.target) for head in _heads_of(vector.request_bytes())
    ], vector


@pytest.mark.counted("vectors of request smuggling", "smuggled")
@pytest.mark.parametrize("vector", named("smuggler"))
def test_no_second_request_hides_in_a_first(vector: Vector, outcomes: dict[str, Outcome]) -> None:
    targets = [head.target for link in outcomes[vector.name].links for head in read_all(bytes(link.received)).heads()]
    assert [target for target in targets if target.partition("?")[0] == "/smuggled"] == []


def test_the_table_names_only_well_formed_vectors() -> None:
    known = {vector.name for suite in ("llhttp", "guardian") for vector in read_vectors(suite) if vector.well_formed}
    if not known:
        pytest.skip(f"vectors not here: {SUITES['llhttp']}")
    assert set(NOT_ARRIVING) <= known


def _was_sent(entry: dict[str, Any]) -> bool:
    return "upstreamAddress" in entry


def _heads_of(data: bytes) -> list[Head]:
    """Read requests strictly, but for the empty lines before a request that RFC 9112 section 2.2 says to ignore."""
    heads: list[Head] = []
    start = 0
    while start < len(data):
        if data.startswith(b"\r\n", start):
            start += 2
            continue
        head = read_head(data, start)
        request = read_request(data, start)
        if head is not None:
            heads.append(head)
        if request is None:
            break
        start = request.end
    return heads


def _is_malformed(data: bytes) -> bool:
    try:
        _heads_of(data)
    except Malformed:
        return True
    return False


def _with_host(raw: bytes, host: bytes, *, every_request: bool) -> bytes:
    start = re.match(rb"(?:\r\n)*[^\r\n]*\r?\n?", raw)
    assert start is not None
    head_end = raw.find(b"\r\n\r\n", start.end() - 2)
    head = raw[start.end() :] if head_end < 0 else raw[start.end() : head_end + 2]
    found = re.search(rb"(?im)^host:[^\r\n]*", head)
    if found is not None:
        here = start.end() + found.start()
        raw = raw[:here] + raw[here : here + 5] + b" " + host + raw[start.end() + found.end() :]
    else:
        raw = raw[: start.end()] + b"Host: " + host + b"\r\n" + raw[start.end() :]
    if every_request:
        later = re.compile(rb"(?<=.)(\r\n(?:\r\n)*[A-Z]+ /[^ \r\n]* HTTP/1\.1\r\n)(?!Host:)")
        raw = later.sub(lambda line: line.group(1) + b"Host: " + host + b"\r\n", raw)
    return raw


async def _send_all(folder: Path, vectors: Sequence[Vector], *, way: str) -> dict[str, Outcome]:
    files = write_origin_files(folder, ["*.vectors.test"])
    async with recording_origin(files.server_context()) as origin:
        hosts = [PLAIN_HOST, *(vector.host for vector in vectors)]
        setting = Setting(
            plan=plan([route("vectors", ["*.vectors.test"], "con_vectors")]),
            credentials={"con_vectors": SECRET},
            connect_to={f"{host}:443": f"127.0.0.1:{origin.port}" for host in hosts},
            ca_file=files.ca_file,
        )
        with gateway_process(folder / "gateway", setting) as gateway:
            async with both_ways(gateway) as ways:
                outcomes = await _send_through(ways[way], origin, vectors)
            # The end of the gateway is the moment after which the audit file holds everything.
            assert await asyncio.to_thread(gateway.terminate) == 0
            records = gateway.audit(lambda _: True)
    for vector in vectors:
        outcomes[vector.name].links = origin.links_for(vector.host)
        outcomes[vector.name].audited = [entry for entry in records if entry.get("host") == vector.host]
    return outcomes


async def _send_through(way: Way, origin: RecordingOrigin, vectors: Sequence[Vector]) -> dict[str, Outcome]:
    outcomes = {vector.name: Outcome() for vector in vectors}
    waiting = list(reversed(vectors))

    async def send(vector: Vector) -> None:
        data = vector.request_bytes()
        heads = _count_heads(data)

        is_malformed = _is_malformed(data)

        def quiet_enough(answers: bytes) -> float | None:
            arrived = sum(bytes(link.received).count(b"\r\n\r\n") for link in origin.links_for(vector.host))
            refused = answers.count(b"X-Sallyport-Error: ")
            if arrived + refused < heads:
                return None
            # Behind a good head that is still to be answered something refused may stand.
            unanswered = len(re.findall(rb"HTTP/1\.1 [2-5]\d\d ", answers)) < arrived
            return CLOSED_SECONDS if is_malformed and (refused or unanswered) else QUIET_SECONDS

        outcome = outcomes[vector.name]
        outcome.answers, outcome.closed = await _exchange(way, vector.host, data, quiet_enough)
        outcome.afterwards = await ask_afterwards(lambda: _ask_plainly(way), way.gateway.process.pid)

    async def send_some() -> None:
        while waiting:
            await send(waiting.pop())

    async with asyncio.TaskGroup() as tasks:
        for number in range(AT_ONCE):
            tasks.create_task(send_some(), name=f"vectors {number}")
    return outcomes


async def _ask_plainly(way: Way) -> bytes:
    plain = f"GET /plain HTTP/1.1\r\nHost: {PLAIN_HOST}\r\nConnection: close\r\n\r\n".encode()
    answer, _ = await _exchange(way, PLAIN_HOST, plain, lambda answers: None)
    return answer


def _count_heads(data: bytes) -> int:
    """Return how many heads have to arrive or be refused before a vector is done with."""
    try:
        return len(_heads_of(data))
    except Malformed:
        return int(b"\r\n\r\n" in data.lstrip(b"\r\n"))


async def _exchange(way: Way, host: str, data: bytes, quiet_enough: QuietEnough) -> tuple[bytes, bool]:
    """Open an intercepted stream, send bytes, read until it closes or has been quiet for long enough."""
    async with asyncio.timeout(WHOLE_SECONDS):
        end = await way.inside(f"{host}:443", host)
        try:
            end.send(data)
            return await _read_answers(end, quiet_enough)
        finally:
            end.writer.transport.abort()


async def _read_answers(end: RawEnd, quiet_enough: QuietEnough) -> tuple[bytes, bool]:
    answers = b""
    quiet_seconds = 0.0
    while True:
        try:
            async with asyncio.timeout(QUIET_SECONDS):
                data = await end.some()
        except TimeoutError:
            quiet_seconds += QUIET_SECONDS
            enough = quiet_enough(answers)
            if enough is not None and quiet_seconds >= enough:
                return answers, False
            continue
        except ConnectionResetError:
            return answers, True
        if not data:
            return answers, True
        answers += data
        quiet_seconds = 0.0
