"""A pair of transports joined in memory, for tests: asyncio's Transport contract without a socket or a port.

Differs from TCP where a test gains by it: nothing lies in a kernel, so every byte not yet taken by the other side
counts in this side's write buffer, and pausing there is felt here at once.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, cast

_HIGH_WATER_BYTES = 64 * 1024  # asyncio's default
_DELIVERY_BYTES = 256 * 1024  # what asyncio and uvloop read at once


def memory_pair(
    loop: asyncio.AbstractEventLoop,
    a_protocol: asyncio.Protocol,
    b_protocol: asyncio.Protocol,
    *,
    chunk_bytes: int = _DELIVERY_BYTES,
) -> tuple["MemoryTransport", "MemoryTransport"]:
    """Join two protocols; both have had `connection_made` on return.

    What one writes the other receives by `loop.call_soon`, at most `chunk_bytes` per turn of the loop.
    """
    a = MemoryTransport(loop, a_protocol, chunk_bytes)
    b = MemoryTransport(loop, b_protocol, chunk_bytes)
    a.join(b)
    b.join(a)
    a_protocol.connection_made(a)
    b_protocol.connection_made(b)
    return a, b


class MemoryTransport(asyncio.Transport):
    """One end of a `memory_pair`. It moves what it holds into the other end; a turn is scheduled when it may.

    Always: `_outgoing` is what was written here and the other side has not received.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.Protocol, chunk_bytes: int) -> None:
        super().__init__()
        self._loop = loop
        self._protocol = protocol
        self._chunk_bytes = chunk_bytes
        self._peer = self
        self._outgoing = bytearray()
        self._high_water = _HIGH_WATER_BYTES
        self._low_water = _HIGH_WATER_BYTES // 4
        self._turn_scheduled = False
        self._reading_paused = False
        self._writing_paused = False
        self._write_ended = False
        self._end_delivered = False
        self._closing = False
        self._lost = False

    def join(self, peer: "MemoryTransport") -> None:
        """Say who the other end is, once, before anything is written."""
        self._peer = peer

    # Writing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._write_ended:
            raise RuntimeError("write() after write_eof()")
        if self._closing or not data:
            return
        self._outgoing += data
        self._pause_writing_if_full()
        self._schedule_turn()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        if not self._closing:
            self._write_ended = True
            self._schedule_turn()

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return len(self._outgoing)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low_water, self._high_water

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high_water = high if high is not None else (low * 4 if low is not None else _HIGH_WATER_BYTES)
        self._low_water = low if low is not None else self._high_water // 4
        self._pause_writing_if_full()

    def _pause_writing_if_full(self) -> None:
        if len(self._outgoing) > self._high_water and not self._writing_paused:
            self._writing_paused = True
            self._protocol.pause_writing()

    # Reading

    def pause_reading(self) -> None:
        self._reading_paused = True

    def resume_reading(self) -> None:
        if self._reading_paused:
            self._reading_paused = False
            self._peer._schedule_turn()

    def is_reading(self) -> bool:
        return not self._reading_paused and not self._closing

    # Ends

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._schedule_turn()

    def abort(self) -> None:
        """End both sides now: what is under way is dropped, and the other side sees a reset."""
        self._closing = True
        self._outgoing.clear()
        self._lose(None)
        self._peer._reset()

    def is_closing(self) -> bool:
        return self._closing

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast("asyncio.Protocol", protocol)

    def get_protocol(self) -> asyncio.Protocol:
        return self._protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401  asyncio's own signature
        return ("memory", 0) if name in ("peername", "sockname") else default

    # A turn: one chunk, or the end, goes over

    def _schedule_turn(self) -> None:
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_scheduled = False
        peer = self._peer
        if self._lost:
            return
        if peer._closing:
            self._turn_toward_closed()
        elif not peer._reading_paused:
            if self._outgoing:
                self._deliver_chunk()
            elif (self._write_ended or self._closing) and not self._end_delivered:
                self._end_delivered = True
                if not peer._protocol.eof_received():
                    peer.close()
        if self._closing and self._end_delivered:
            self._lose(None)
        elif self._may_move():
            self._schedule_turn()

    def _may_move(self) -> bool:
        """Say whether another turn would do something; if not, the other side's resume or end schedules it."""
        ends = (self._write_ended or self._closing) and not self._end_delivered
        if not self._outgoing and not ends:
            return False
        if self._peer._closing:
            return self._peer._lost or self._closing or not self._outgoing
        return not self._peer._reading_paused

    def _turn_toward_closed(self) -> None:
        """Nobody reads there any more: bytes are answered by a reset once that side is gone, as TCP does."""
        if self._closing or not self._outgoing:
            self._outgoing.clear()
            self._end_delivered = True
        elif self._peer._lost:
            self._reset()

    def _deliver_chunk(self) -> None:
        chunk = bytes(self._outgoing[: self._chunk_bytes])
        del self._outgoing[: self._chunk_bytes]
        self._peer._protocol.data_received(chunk)
        if self._writing_paused and len(self._outgoing) <= self._low_water and not self._lost:
            self._writing_paused = False
            self._protocol.resume_writing()

    def _reset(self) -> None:
        self._closing = True
        self._outgoing.clear()
        self._lose(ConnectionResetError("the other side ended it"))

    def _lose(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._lost = True
        # The protocol is looked up then: it may have been replaced in between.
        self._loop.call_soon(lambda: self._protocol.connection_lost(error))
        self._peer._schedule_turn()

    def __repr__(self) -> str:
        state = "lost" if self._lost else "closing" if self._closing else "open"
        return f"<MemoryTransport {state}: {len(self._outgoing)} bytes held>"
