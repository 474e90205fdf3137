"""A last answer arrives, whatever the program still sends, and its connection ends."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from sallyport.net.clock import Clock
from sallyport.net.memory import MemoryTransport, memory_pair
from sallyport.net.parting import LINGER_BYTES, Parting
from tests.support.passing_time import let_time_pass
from tests.support.transports import End
from tests.support.until import until


@pytest.fixture
async def clock() -> AsyncIterator[Clock]:
    clock = Clock(asyncio.get_running_loop())
    yield clock
    clock.close()


def parting(clock: Clock) -> tuple[End, MemoryTransport, Parting, list[str]]:
    ends: list[str] = []
    program = End(keeps_half_open=True)
    transport = memory_pair(asyncio.get_running_loop(), program, asyncio.Protocol())[1]
    return program, transport, Parting(clock, transport, b"answer", lambda: ends.append("end")), ends


async def test_the_answer_and_the_end(clock: Clock) -> None:
    program, transport, parts, ends = parting(clock)
    transport.pause_reading()
    parts.begin()
    program.transport.write(b"the rest of an upload")
    await program.until_event("eof")
    assert program.received == b"answer"
    program.transport.write_eof()
    await until(lambda: ends == ["end"])


async def test_inside_tls_nothing_is_said_before_something_was_asked(clock: Clock) -> None:
    program, _, parts, ends = parting(clock)
    parts.begin_when_asked(60)
    await asyncio.sleep(0.02)  # nothing must happen
    assert program.received == b""
    program.transport.write(b"G")
    await program.until_received(b"answer")
    program.transport.close()
    await until(lambda: ends == ["end"])


async def test_a_program_that_asks_nothing_is_not_waited_for(clock: Clock) -> None:
    program, _, parts, ends = parting(clock)
    parts.begin_when_asked(60)
    let_time_pass(clock, 61)
    await until(lambda: ends == ["end"])
    assert program.received == b""


async def test_a_program_that_does_not_end_is_ended(clock: Clock) -> None:
    program, _, parts, ends = parting(clock)
    parts.begin()
    await program.until_received(b"answer")
    let_time_pass(clock, 3)
    await until(lambda: ends == ["end"])


async def test_a_program_that_sends_for_ever_is_ended(clock: Clock) -> None:
    program, _, parts, ends = parting(clock)
    parts.begin()
    program.transport.write(b"x" * (LINGER_BYTES + 1))
    await until(lambda: ends == ["end"])


async def test_a_program_that_is_gone_is_told_nothing(clock: Clock) -> None:
    program, transport, parts, ends = parting(clock)
    program.transport.abort()
    await until(transport.is_closing)
    parts.begin()
    assert ends == ["end"]
