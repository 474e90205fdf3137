"""Good requests, damaged at random, against a running gateway, by both ways.

Allowed outcomes: nothing arrives at the origin, or what arrives reads strictly as requests to the one host that may be
asked, each with our credential and no other; the secret never comes back, and a plain request succeeds afterwards.
"""

import asyncio
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest

from tests.support.afterwards import AFTERWARDS
from tests.support.egress_stage import SECRET, Case, Play, Played, Scene, play_all
from tests.support.egress_ways import WAYS
from tests.support.figures import InTime, RecordProperty
from tests.support.strict_http import Malformed, read_all

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]

VECTORS = 400
# Once this long nothing has come, nothing more will.
QUIET_SECONDS = 0.5
HEAD = b" {before}/v1/x HTTP/1.1\r\nHost: {host}\r\n"
GOOD = (
    b"GET" + HEAD + b"User-Agent: a\r\n\r\n",
    b"POST" + HEAD + b"Content-Length: 5\r\n\r\nhello",
    b"POST" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"GET" + HEAD + b"\r\nGET" + HEAD + b"\r\n",
)
DAMAGES = (
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b" ",
        b"\t",
        b":",
        b";",
        b"#",
        b"?",
        b"@",
        b"_",
        b"\\",
        b"\xff",
        b"%2e%2e/",
        b"/../",
    ),
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 5\r\n",
    b"Host: evil.test\r\n",
    b"Connection: close, host, authorization\r\n",
    b"Connection: upgrade\r\n",
    b"Upgrade: websocket\r\n",
    b"Expect: 100-continue\r\n",
    b"Authorization: Bearer mine\r\n",
    b"Proxy-Authorization: x\r\n",
    b"Sallyport-Stream: plain; revision=1\r\n",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n",
    b"HTTP/1.0",
    b"CONNECT",
    b"GET /v1/smuggled HTTP/1.1\r\nHost: {host}\r\n\r\n",
)


def damaged(request: bytes, chance: random.Random) -> bytes:
    """Put something into a request, at a place or at a line's end, or take a few bytes out, up to three times."""
    for _ in range(chance.choice((1, 1, 2, 3))):
        at = chance.randrange(len(request) + 1)
        match chance.randrange(5):
            case 0:
                request = request[:at] + request[at + chance.choice((1, 2, 4)) :]
            case 1:
                at = chance.choice([0, *(found.end() for found in re.finditer(rb"\r\n", request))])
                request = request[:at] + chance.choice(DAMAGES) + request[at:]
            case _:
                request = request[:at] + chance.choice(DAMAGES) + request[at:]
    return request


def asks(request: bytes, is_inside: bool, told: Callable[[Scene, bytes], object]) -> Play:
    async def play(scene: Scene) -> None:
        end = await (scene.inside if is_inside else scene.plain)(request)
        answered = b""
        try:
            while True:
                async with asyncio.timeout(QUIET_SECONDS):
                    data = await end.some()
                if not data:
                    break
                answered += data
        except (TimeoutError, ConnectionError):
            pass
        end.writer.transport.abort()
        told(scene, answered)

    return play


@dataclass(frozen=True, slots=True, kw_only=True)
class Damaged:
    """What was sent, by the names of its cases, and what came of it; answers by the hosts of their scenes."""

    seed: int
    requests: Mapping[str, bytes]
    answers: Mapping[str, bytes]
    played: Played


@pytest.fixture(scope="module")
def damaged_ones(tmp_path_factory: pytest.TempPathFactory) -> Damaged:
    seed = random.SystemRandom().randrange(2**32)
    chance = random.Random(seed)
    requests: dict[str, bytes] = {}
    answered: dict[str, bytes] = {}
    cases = []
    for number in range(VECTORS):
        is_inside = chance.random() < 0.5
        good = chance.choice(GOOD).replace(b"{before}", b"" if is_inside else b"http://{host}")
        request = requests[str(number)] = damaged(good, chance)
        play = asks(request, is_inside, lambda scene, answer: answered.__setitem__(scene.host, answer))
        cases.append(Case(name=str(number), play=play))
    played = play_all(tmp_path_factory.mktemp("damaged"), cases)
    return Damaged(seed=seed, requests=requests, answers=answered, played=played)


@pytest.mark.counted("damaged requests", "read in two ways")
def test_what_is_damaged_is_refused_or_read_one_way(damaged_ones: Damaged, record_property: RecordProperty) -> None:
    record_property("tried", ["damaged requests", VECTORS * len(WAYS)])
    faults: Mapping[str, object] = {
        f"{damaged_ones.requests[name]!r} by {way}": fault
        for (name, way), scene in damaged_ones.played.scenes.items()
        if (fault := fault_of(scene, damaged_ones.answers.get(scene.host, b""))) is not None
    }
    assert faults == {}, f"seed {damaged_ones.seed}"
    assert damaged_ones.played.links_of_none == []


@AFTERWARDS
def test_t6_a_plain_request_succeeds_after_each(
    damaged_ones: Damaged, record_property: RecordProperty, in_time: InTime
) -> None:
    damaged_ones.played.check_afterwards(record_property, in_time)


def fault_of(scene: Scene, answer: bytes) -> str | None:
    """Say what must not have been; None where nothing was."""
    if scene.fault is not None:
        return repr(scene.fault)
    if SECRET.encode() in answer:
        return "the secret came back"
    for received in scene.received:
        try:
            reading = read_all(received)
        except Malformed as fault:
            return f"{received!r} arrived: {fault}"
        for head in reading.heads():
            is_ours = head.values("authorization") == [f"Bearer {SECRET}".encode()]
            if head.host != scene.host or not is_ours or not head.target.startswith("/v1"):
                return f"{received!r} arrived"
    return None
