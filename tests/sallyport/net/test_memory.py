"""What the memory transports promise beyond the byte stream contract (tests/contract/test_byte_stream.py)."""

import asyncio

import pytest

from sallyport.net.memory import MemoryTransport, memory_pair
from tests.support.transports import End


def pair(a: End, b: End, *, chunk_bytes: int = 1 << 18) -> tuple[MemoryTransport, MemoryTransport]:
    return memory_pair(asyncio.get_running_loop(), a, b, chunk_bytes=chunk_bytes)


async def test_both_are_connected_at_once_and_nothing_arrives_before_a_turn_of_the_loop() -> None:
    a, b = End(), End()
    left, right = pair(a, b)
    assert (a.transport, b.transport) == (left, right)
    left.write(b"x")
    assert b.received == b""
    await b.until_received(b"x")
    assert left.get_extra_info("peername") == ("memory", 0)
    assert left.get_protocol() is a


async def test_chunks_have_the_size_asked_for_and_one_turn_each() -> None:
    a, b = End(), End()
    pair(a, b, chunk_bytes=3)
    a.transport.write(b"abcdefg")
    seen = []
    while len(b.received) < 7:
        await asyncio.sleep(0)
        seen.append(bytes(b.received))
    assert seen == [b"abc", b"abcdef", b"abcdefg"]


async def test_every_byte_not_received_counts_as_buffered() -> None:
    a, b = End(), End()
    left, right = pair(a, b, chunk_bytes=10_000)
    right.pause_reading()
    left.write(bytes(65_536))
    assert a.events == ["made"]
    left.write(b"1")
    assert a.events == ["made", "pause"]
    assert left.get_write_buffer_size() == 65_537
    right.resume_reading()
    await a.until_event("resume")
    assert left.get_write_buffer_size() == 15_537  # the first chunk border at or under the low water mark
    assert repr(left) == "<MemoryTransport open: 15537 bytes held>"


async def test_end_waits_for_a_paused_reader_behind_the_bytes() -> None:
    a, b = End(keeps_half_open=True), End(keeps_half_open=True)
    left, right = pair(a, b)
    right.pause_reading()
    left.write(b"bytes")
    left.write_eof()
    for _ in range(3):
        await asyncio.sleep(0)
    assert b.events == ["made"]
    right.resume_reading()
    await b.until_event("eof")
    assert b.received == b"bytes"


async def test_abort_is_a_reset_for_the_other_side_and_drops_what_is_under_way() -> None:
    a, b = End(), End()
    left, right = pair(a, b)
    left.write(b"lost")
    right.write(b"lost too")
    left.abort()
    left.abort()
    await b.until_event("lost")
    await a.until_event("lost")
    assert (bytes(a.received), bytes(b.received)) == (b"", b"")
    assert a.error is None
    assert isinstance(b.error, ConnectionResetError)
    assert (a.events, b.events) == (["made", "lost"], ["made", "lost"])
    assert repr(right) == "<MemoryTransport lost: 0 bytes held>"


async def test_bytes_for_a_side_that_is_gone_are_answered_by_a_reset() -> None:
    a, b = End(), End(keeps_half_open=True)
    left, right = pair(a, b)
    left.close()
    await b.until_event("eof")
    right.write(b"anyone?")
    await b.until_event("lost")
    assert isinstance(b.error, ConnectionResetError)
    assert a.received == b""


async def test_both_closing_with_bytes_for_each_other_ends_both() -> None:
    a, b = End(), End()
    left, right = pair(a, b)
    left.write(b"x")
    right.write(b"y")
    left.close()
    right.close()
    await a.until_event("lost")
    await b.until_event("lost")
    assert (a.error, b.error) == (None, None)


async def test_protocol_can_be_replaced() -> None:
    a, b, c = End(), End(), End()
    _, right = pair(a, b)
    right.set_protocol(c)
    a.transport.write(b"for the new one")
    await c.until_received(b"for the new one")
    assert b.received == b""


async def test_limits_follow_asyncio() -> None:
    left, _ = pair(End(), End())
    left.set_write_buffer_limits(high=400)
    assert left.get_write_buffer_limits() == (100, 400)
    left.set_write_buffer_limits(low=100)
    assert left.get_write_buffer_limits() == (100, 400)
    left.set_write_buffer_limits()
    assert left.get_write_buffer_limits() == (16_384, 65_536)


async def test_write_after_write_eof_is_our_mistake() -> None:
    left, _ = pair(End(), End(keeps_half_open=True))
    left.write_eof()
    with pytest.raises(RuntimeError):
        left.write(b"x")
