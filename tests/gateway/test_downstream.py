"""The sandbox's side of a stream: held, ended in good order, and whose it is."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from gateway.core.decision import Deny, Mode
from gateway.stream import ServedStream
from sallyport.net.memory import memory_pair
from sallyport.net.parting import LINGER_BYTES
from sallyport.problem import Code
from tests.support.in_process import in_process_gateway
from tests.support.until import until

DENY = Deny(code=Code.DENIED_BY_PLAN, detail="not here")


class Sandbox(asyncio.Protocol):
    def __init__(self) -> None:
        self.received = b""
        self.has_ended = False
        self.lost = False

    def data_received(self, data: bytes) -> None:
        self.received += data

    def eof_received(self) -> bool:
        self.has_ended = True
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True


@pytest.mark.parametrize("more", [0, LINGER_BYTES + 1])
async def test_a_refusal_arrives_and_what_comes_after_it_is_read_for_a_while(tmp_path: Path, more: int) -> None:
    async with in_process_gateway(tmp_path) as gateway:
        sandbox = Sandbox()
        stream = ServedStream(gateway.parts, mode=Mode.PLAIN, source="explicit")
        _, theirs = memory_pair(asyncio.get_running_loop(), stream, sandbox)
        stream.refuse(DENY)
        await until(lambda: sandbox.has_ended)
        assert sandbox.received.startswith(b"HTTP/1.1 403 ")
        assert (repr(stream), gateway.parts.streams.open) == ("<ServedStream of nobody, plain, idle>", 1)
        if more:
            theirs.write(b"x" * more)
        else:
            theirs.close()
        await until(lambda: gateway.parts.streams.open == 0)
        with contextlib.suppress(RuntimeError):
            theirs.abort()
        (record,) = gateway.audit.entries
        assert (record["source"], record["code"], record["sandboxId"]) == ("explicit", "denied_by_plan", None)


async def test_reading_is_held_until_every_reason_is_gone(tmp_path: Path) -> None:
    async with in_process_gateway(tmp_path) as gateway:
        stream = ServedStream(gateway.parts, mode=Mode.PLAIN, source="explicit")
        ours, _ = memory_pair(asyncio.get_running_loop(), stream, Sandbox())
        stream.hold_reading("link")
        stream.hold_reading("pipeline")
        stream.resume_reading("nothing that holds")
        assert (stream.is_reading_held, ours.is_reading()) == (True, False)
        stream.resume_reading("link")
        assert not ours.is_reading()
        assert stream.take_buffer() == b""  # drops the pipeline's reason
        assert (stream.is_reading_held, ours.is_reading()) == (False, True)
        stream.abort()
        await until(lambda: gateway.parts.streams.open == 0)
