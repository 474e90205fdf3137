"""Whoever comes to the door: one at a time, believed nothing, at a real socket."""

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from sallyport.net.tunnel_pace import CONTROLS_BURST
from sallyport.net.unix_stream import connect_name
from sandboxd.deputy.door import READY_SECONDS
from tests.support.deputies import DoorOfTest, open_door
from tests.support.passing_time import let_time_pass
from tests.support.transports import End
from tests.support.until import until

pytestmark = pytest.mark.uvloop

STATUS = {"type": "setup.status", "revision": 1, "state": "applied", "steps": []}


@pytest.fixture
async def there() -> AsyncIterator[DoorOfTest]:
    async with open_door() as there:
        yield there


class Principal:
    def __init__(self) -> None:
        self.heard: list[str] = []

    def deputy_came(self) -> None:
        self.heard.append("came")

    def deputy_left(self) -> None:
        self.heard.append("left")


async def test_a_deputy_comes_tells_and_leaves(there: DoorOfTest) -> None:
    principal = Principal()
    there.door.join(principal)
    with await there.deputy() as deputy:
        deputy.say(STATUS)
        await until(lambda: there.statuses == [{"revision": 1, "state": "applied", "steps": []}])
        assert there.door.tunnel is not None
        end = End()
        there.door.tunnel.open_stream(end)
        end.transport.write(b"to the deputy")
        inside = await deputy.opened()
        await inside.until_received(b"to the deputy")
    await until(lambda: principal.heard == ["came", "left"])
    await end.until_event("lost")
    there.door.part(principal)
    with await there.deputy():
        assert principal.heard == ["came", "left"]
    assert there.log.count('"deputy_came"') == 2


async def test_one_at_a_time(there: DoorOfTest) -> None:
    with await there.deputy() as first:
        second = await there.deputy(is_ready=False)
        assert (await second.lost())[0] is None
        first.say(STATUS)
        await until(lambda: len(there.statuses) == 1)


async def test_whoever_comes_and_goes_is_not_let_in_at_once(there: DoorOfTest) -> None:
    with await there.deputy():
        pass
    await until(lambda: there.door.tunnel is None)
    end = await connect_name(End, there.name)
    await end.until_event("lost")


async def test_whoever_says_nothing_is_not_waited_for(there: DoorOfTest) -> None:
    silent = await there.deputy(is_ready=False)
    await until(lambda: there.door._link is not None)
    let_time_pass(there.door.clock, READY_SECONDS + 1)
    await silent.lost()
    with await there.deputy():
        pass


@pytest.mark.parametrize(
    "message",
    [
        {"type": "ready"},
        {"type": "setup.apply", "revision": 1},
        {"type": "token.request", "requestId": "r"},
        {"type": "setup.status", "revision": 1},
        {"type": []},
        {},
    ],
)
async def test_what_no_deputy_says_ends_its_link(there: DoorOfTest, message: dict[str, object]) -> None:
    deputy = await there.deputy()
    deputy.say(message)
    assert (await deputy.lost())[0] == 1008
    assert there.statuses == []
    assert '"deputy_refused"' in there.log


async def test_a_status_before_it_is_ready(there: DoorOfTest) -> None:
    deputy = await there.deputy(is_ready=False)
    deputy.say(STATUS)
    assert (await deputy.lost())[0] == 1008


async def test_a_deputy_opens_nothing(there: DoorOfTest) -> None:
    deputy = await there.deputy()
    stream = deputy.tunnel.open_stream(End())
    stream.write(b"CONNECT api.example.com:443 HTTP/1.1\r\n\r\n")
    assert (await deputy.lost())[0] == 1008


@pytest.mark.parametrize("text", [b"[]", b"{", b"[" * 60_000, b'{"type": "ready", "type": "ready"}', b"\xff"])
async def test_text_that_is_no_message(there: DoorOfTest, text: bytes) -> None:
    deputy = await there.deputy()
    head = bytes([0x81, 0x80 | len(text)]) if len(text) < 126 else b"\x81\xfe" + len(text).to_bytes(2)
    deputy.transport.write(head + bytes(4) + text)
    assert (await deputy.lost())[0] in (1007, 1008)


async def test_bytes_that_are_no_link(there: DoorOfTest) -> None:
    end = await connect_name(End, there.name)
    end.transport.write(b"GET / HTTP/1.1\r\n" + os.urandom(100_000))
    await end.until_event("lost")
    with await there.deputy():
        pass


async def test_more_messages_than_a_deputy_needs(there: DoorOfTest) -> None:
    deputy = await there.deputy()
    for _ in range(2 * CONTROLS_BURST):
        deputy.say(STATUS)
    assert (await deputy.lost())[0] == 1008
    assert len(there.statuses) < 2 * CONTROLS_BURST
    # And a new link does not begin anew.
    assert there.door.pace._controls.left < CONTROLS_BURST / 2


async def test_the_end_of_sandboxd_is_told(there: DoorOfTest) -> None:
    deputy = await there.deputy()
    await there.door.close()
    assert await deputy.lost() == (1000, "sandboxd ends")
    with pytest.raises(ConnectionRefusedError):
        await connect_name(asyncio.Protocol, there.name)


async def test_how_it_reads(there: DoorOfTest) -> None:
    assert repr(there.door) == "<DeputyDoor nobody>"
    with await there.deputy():
        assert repr(there.door) == "<DeputyDoor <Tunnel open: 0 streams>>"
