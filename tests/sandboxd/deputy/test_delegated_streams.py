"""Streams of the gateway to a deputy that a test plays: what it does, and what the gateway hears."""

import json
from collections.abc import AsyncIterator

import pytest

from sandboxd.deputy.delegated_setup import DelegatedSetup
from sandboxd.deputy.delegated_streams import ANSWER_SECONDS, HOLD_SECONDS, DelegatedStreams
from sandboxd.stream_answers import MAX_LOCAL_STREAMS
from tests.support.deputies import DoorOfTest, open_door
from tests.support.passing_time import let_time_pass
from tests.support.setup_documents import Json
from tests.support.transports import End
from tests.support.until import until

pytestmark = pytest.mark.uvloop

HEAD = b"CONNECT mcp/files HTTP/1.1\r\nHost: sandbox\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n\r\n"


class Side:
    def __init__(self, there: DoorOfTest, *, has_door: bool = True) -> None:
        self.there = there
        self.clock = there.door.clock
        door = there.door if has_door else None
        self.setup = DelegatedSetup(door, clock=self.clock, send_status=lambda status: None)
        self.streams = DelegatedStreams(door, self.setup, clock=self.clock)

    def open(self, target: str = "mcp/files", early: bytes = b"") -> End:
        return self.there.gateway_stream(self.streams.connect, target, early)


@pytest.fixture
async def side() -> AsyncIterator[Side]:
    async with open_door() as there:
        side = Side(there)
        yield side
        await side.streams.close()
        await until(lambda: repr(side.streams) == "<DelegatedStreams: 0 open>")
        await side.setup.close()


async def refused(end: End) -> tuple[int, Json]:
    """Return status and document of a refusal."""
    await end.until_event("eof")
    head, _, body = bytes(end.received).partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), json.loads(body)


async def test_bytes_go_both_ways_and_each_half_ends_by_itself(side: Side) -> None:
    with await side.there.deputy() as deputy:
        gateway = side.open(early=b"early ")
        inside = await deputy.opened()
        await inside.until_received(HEAD)
        assert inside.received == HEAD  # nothing more before the answer
        inside.transport.write(OK + b"down ")
        await gateway.until_received(OK + b"down ")
        gateway.transport.write(b"up" * 100_000)
        gateway.transport.write_eof()
        await inside.until_event("eof")
        assert inside.received == HEAD + b"early " + b"up" * 100_000
        inside.transport.write(b"more" * 100_000)
        inside.transport.close()
        await gateway.until_event("eof")
        assert gateway.received == OK + b"down " + b"more" * 100_000


async def test_what_the_deputy_answers_is_the_gateway_s_to_read(side: Side) -> None:
    with await side.there.deputy() as deputy:
        gateway = side.open()
        inside = await deputy.opened()
        inside.transport.write(b"garbage")
        await gateway.until_received(b"garbage")


async def test_a_deputy_that_comes_is_waited_for(side: Side) -> None:
    gateway = side.open()
    let_time_pass(side.clock, HOLD_SECONDS / 2)
    with await side.there.deputy() as deputy:
        inside = await deputy.opened()
        inside.transport.write(OK)
        await gateway.until_received(OK)


async def test_one_that_does_not_come_is_told(side: Side) -> None:
    gateway = side.open()
    let_time_pass(side.clock, HOLD_SECONDS + 1)
    status, document = await refused(gateway)
    assert (status, document["code"]) == (502, "upstream_unreachable")
    assert document["detail"] == "the sandbox's deputy does not run at present"


async def test_one_that_does_not_answer_is_told(side: Side) -> None:
    with await side.there.deputy() as deputy:
        gateway = side.open()
        inside = await deputy.opened()
        let_time_pass(side.clock, ANSWER_SECONDS + 1)
        status, document = await refused(gateway)
        assert (status, document["code"]) == (504, "upstream_timeout")
        await inside.until_event("lost")


async def test_one_that_answers_too_late_is_not_listened_to(side: Side) -> None:
    with await side.there.deputy() as deputy:
        gateway = side.open()
        inside = await deputy.opened()
        let_time_pass(side.clock, ANSWER_SECONDS + 1)
        inside.transport.write(OK)
        assert (await refused(gateway))[0] == 504
        await inside.until_event("lost")
        again = side.open()  # and the link goes on
        (await deputy.opened(1)).transport.write(OK)
        await again.until_received(OK)


@pytest.mark.parametrize("way", ["leaves", "resets", "ends"])
async def test_one_that_goes_without_an_answer_is_told(side: Side, way: str) -> None:
    with await side.there.deputy() as deputy:
        gateway = side.open()
        inside = await deputy.opened()
        match way:
            case "leaves":
                deputy.tunnel.abort()
            case "resets":
                inside.transport.abort()
            case "ends":
                inside.transport.close()
        assert (await refused(gateway))[0] == 502


async def test_one_that_leaves_later_cuts_the_stream(side: Side) -> None:
    with await side.there.deputy() as deputy:
        gateway = side.open()
        inside = await deputy.opened()
        inside.transport.write(OK)
        await gateway.until_received(OK)
    await gateway.until_event("lost")
    assert "eof" not in gateway.events


async def test_a_gateway_that_goes_takes_the_stream_inside_along(side: Side) -> None:
    with await side.there.deputy() as deputy:
        gateway = side.open()
        inside = await deputy.opened()
        gateway.transport.abort()
        await inside.until_event("lost")


async def test_so_many_and_no_more(side: Side) -> None:
    held = [side.open() for _ in range(MAX_LOCAL_STREAMS)]
    status, document = await refused(side.open())
    assert (status, document["code"]) == (503, "overloaded")
    for end in held:
        end.transport.abort()


@pytest.mark.parametrize("target", ["nothing", "mcp/a/b", "endpoint/a", "setup/1", "setup/x"])
async def test_what_is_not_there(side: Side, target: str) -> None:
    assert (await refused(side.open(target)))[0] == 404


async def test_without_a_door_there_is_nothing_to_reach() -> None:
    async with open_door() as there:
        side = Side(there, has_door=False)
        status, document = await refused(side.open("endpoint/agent/ws"))
        assert (status, document["detail"]) == (502, "no deputy runs in this sandbox")
        await side.setup.close()
