"""One stream of a tunnel as an asyncio transport: whoever can speak over TCP can speak over this.

It is the upper side of a yamux stream (sallyport/wire/yamux/stream.py). Credit goes back to the peer for what the
protocol here has taken while it was not pausing; what it takes and then pauses for waits until it resumes.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, cast

from sallyport.net.clock import read_clock
from sallyport.wire.yamux.stream import MuxStream
from sallyport.wire.yamux.stream_state import StreamState

if TYPE_CHECKING:
    from sallyport.net.tunnel import Tunnel

HIGH_WATER_BYTES: Final = 64 * 1024  # asyncio's default
# Smaller pieces are held as one: each is an object of its own, so two bytes would cost thirty times what the budget
# counts. A full frame of ours stays as it came and is copied by nobody.
PIECE_BYTES: Final = 16 * 1024
# What may be asked of the tunnel's own transport. Not its socket: it belongs to all streams.
_PASSED_ON: Final = ("peername", "sockname")
# Stands where the protocol was once nothing more can come: an ended stream must not keep it alive.
_NOBODY: Final = asyncio.Protocol()


class TunnelStream(asyncio.Transport):
    """A stream. `get_extra_info("tunnel")` is its Tunnel.

    `close` sends what was written and then FIN; the peer may have its half open for a while after that, and is reset
    if it goes on sending. A peer's RST, and the end of the tunnel, are connection_lost(ConnectionResetError). An
    exception of the protocol resets its stream alone.
    """

    __slots__ = (
        "_eof_told",
        "_eof_waits",
        "_has_discarded",
        "_held",
        "_high_water",
        "_is_closing",
        "_is_lost",
        "_low_water",
        "_owed",
        "_protocol",
        "_reading_paused",
        "_reset_waits",
        "_tunnel",
        "_write_ended",
        "_writing_paused",
        "mux",
    )

    def __init__(self, tunnel: "Tunnel") -> None:
        # Without asyncio's own __init__: all it makes is a dict for get_extra_info, which is ours, in a slot that lies
        # where a compiled class has its table of methods.
        self._tunnel = tunnel
        self.mux: MuxStream
        self._protocol = _NOBODY
        # Received while reading was paused, or in another's turn. Two neighbours have more than PIECE_BYTES together.
        self._held: deque[bytes | bytearray] | None = None
        self._owed = 0  # taken by the protocol, which then paused
        self._reading_paused = False
        self._eof_waits = False  # FIN received, to be told once reading goes on
        self._eof_told = False
        self._reset_waits = False  # RST received behind a FIN that waits
        self._high_water = HIGH_WATER_BYTES
        self._low_water = HIGH_WATER_BYTES // 4
        self._writing_paused = False
        self._write_ended = False
        self._has_discarded = False
        self._is_closing = False
        self._is_lost = False

    def begin(self, protocol: asyncio.Protocol) -> None:
        """Give the protocol its connection_made. Called once, by the tunnel, which has set mux."""
        self._protocol = protocol
        self._guarded(lambda: protocol.connection_made(self))

    # Writing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._write_ended:
            raise RuntimeError("write() after write_eof()")
        if self._is_closing or self._reset_waits or not data:
            return
        mux = self.mux
        self._tunnel.session.write(mux, data if type(data) is bytes else bytes(data))
        if mux.unsent_bytes > self._high_water and not self._writing_paused:
            self._pause_writing()
        self._tunnel.schedule_flush()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        """Send FIN behind what was written; reading goes on."""
        if not (self._write_ended or self._is_closing or self._reset_waits):
            self._write_ended = True
            self._tunnel.session.end(self.mux)
            self._tunnel.schedule_flush()

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return self.mux.unsent_bytes

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low_water, self._high_water

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high_water = high if high is not None else (low * 4 if low is not None else HIGH_WATER_BYTES)
        self._low_water = low if low is not None else self._high_water // 4
        if self.mux.unsent_bytes > self._high_water and not self._writing_paused:
            self._pause_writing()

    def _pause_writing(self) -> None:
        self._writing_paused = True
        self._guarded(self._protocol.pause_writing)

    # Reading

    def pause_reading(self) -> None:
        self._reading_paused = True

    def resume_reading(self) -> None:
        if not self._reading_paused:
            return
        self._reading_paused = False
        if self._owed:
            owed, self._owed = self._owed, 0
            self._tunnel.budget.release(self, owed)
            self._delivered(owed)
        if self._held or self._eof_waits:
            # Never from inside the call: the protocol may be in the middle of something. Nor all at once.
            self._tunnel.wait_for_turn(self)

    def is_reading(self) -> bool:
        return not self._reading_paused and not self._is_closing

    # Ends

    def close(self) -> None:
        if self._is_closing:
            return
        self._is_closing = True
        if self._reset_waits:
            self._lose(ConnectionResetError("the peer reset the stream"))
            return
        self._has_discarded = bool(self._held)
        dropped = self._drop_held()
        session, mux = self._tunnel.session, self.mux
        if mux.state in (StreamState.LOCAL_ENDED, StreamState.ENDED):
            self.stream_finished()
            return
        session.end(mux)
        # Both sides may have closed, each with bytes to send that only the other's credit lets go.
        self._delivered(dropped)
        self._tunnel.schedule_flush()

    def abort(self) -> None:
        """End both directions now; the peer sees a reset."""
        if not self._is_lost:
            self._tunnel.reset(self.mux)
            self._lose(None)

    def is_closing(self) -> bool:
        return self._is_closing

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast("asyncio.Protocol", protocol)

    def get_protocol(self) -> asyncio.Protocol:
        return self._protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401  asyncio's own signature
        if name == "tunnel":
            return self._tunnel
        return self._tunnel.transport.get_extra_info(name, default) if name in _PASSED_ON else default

    # What the session calls

    def stream_data(self, data: bytes) -> None:
        if self._is_closing:
            self._discard(len(data))
        elif self._reading_paused or self._held or not self._tunnel.has_turn(self, len(data)):
            self._hold(data)
            self._tunnel.budget.hold(self, len(data))
        else:
            self._deliver(data)

    def take_turn(self) -> bool:
        """Give the protocol one piece of what is held, and the end behind the last; True while another is to follow."""
        held = self._held
        if held and not self._reading_paused and not self._is_closing:
            piece = held.popleft()
            self._tunnel.budget.release(self, len(piece))
            self._deliver(piece if isinstance(piece, bytes) else bytes(piece))
        if self._eof_waits and not (held or self._reading_paused or self._is_closing):
            self._tell_eof()
        if self._reset_waits and self._eof_told:
            self._lose(ConnectionResetError("the peer reset the stream"))
        return bool(self._held) and not self._reading_paused and not self._is_closing

    def stream_ended(self) -> None:
        if self._is_closing:
            if self._is_lost:
                self._tunnel.orphan_ended(self.mux)
        elif self._reading_paused or self._held:
            self._eof_waits = True
        else:
            self._tell_eof()

    def stream_reset(self) -> None:
        # What came before a FIN is whole; who was answered early and goes on sending is reset, and may read all of it.
        if self._is_lost:
            self._tunnel.orphan_ended(self.mux)
        elif self._eof_waits and not self._is_closing:
            self._reset_waits = True
        else:
            self._lose(ConnectionResetError("the peer reset the stream"))

    def stream_sent(self) -> None:
        if self._writing_paused and self.mux.unsent_bytes <= self._low_water:
            self._writing_paused = False
            self._guarded(self._protocol.resume_writing)

    def stream_finished(self) -> None:
        """FIN has gone out. The protocol is done with the stream if it has closed it."""
        if self._is_closing:
            self._lose(None)
            # As TCP does: bytes that nobody has read, or a writer that waits for a window that will never open again.
            if self._has_discarded or not self.mux.window.available:
                self._tunnel.reset(self.mux)
            elif self.mux.state is not StreamState.ENDED:
                self._tunnel.orphaned(self.mux)
        else:
            self.stream_sent()

    def tunnel_ended(self) -> None:
        """End with the tunnel."""
        self._lose(ConnectionResetError("the tunnel has ended"))

    # What the budget calls

    def release_credit(self) -> None:
        self._return_credit()

    def evict(self) -> None:
        self._tunnel.reset(self.mux)
        self._lose(ConnectionResetError("more is held for this stream than the process can hold"))

    # Delivering

    def _hold(self, data: bytes) -> None:
        """Keep what came behind what is held, in one piece with the last while that is small."""
        if self._held is None:
            self._held = deque()
        held = self._held
        if not held or len(held[-1]) + len(data) > PIECE_BYTES:
            held.append(data)
            return
        last = held[-1]
        if isinstance(last, bytes):
            held[-1] = last = bytearray(last)
        last.extend(data)

    def _deliver(self, data: bytes) -> None:
        try:
            self._protocol.data_received(data)
        except Exception as error:
            self._fail(error)
            return
        if self._reading_paused and not self._is_closing:
            self._owed += len(data)
            self._tunnel.budget.hold(self, len(data))
        elif self.mux.window.delivered(len(data)):
            self._return_credit()

    def _delivered(self, count: int) -> None:
        if self.mux.window.delivered(count):
            self._return_credit()

    def _return_credit(self) -> None:
        tunnel, window = self._tunnel, self.mux.window
        if self._is_lost:
            return
        if tunnel.budget.is_over:
            tunnel.budget.withhold(self)
            return
        limit = tunnel.limits.max_window_bytes if tunnel.budget.has_room_for(window.size) else window.size
        more = window.grow(read_clock(), tunnel.round_trip, limit)
        tunnel.session.return_credit(self.mux, window.take_credit() + more)
        tunnel.schedule_flush()

    def _tell_eof(self) -> None:
        self._eof_waits = False
        self._eof_told = True
        try:
            keeps_open = self._protocol.eof_received()
        except Exception as error:
            self._fail(error)
            return
        if not keeps_open:
            self.close()

    def _discard(self, count: int) -> None:
        """Nobody reads here any more. The answer that is still going out comes first, then the peer is told."""
        self._has_discarded = True
        if self._is_lost:
            self._tunnel.orphan_ended(self.mux)
            self._tunnel.reset(self.mux)
        else:
            self._delivered(count)

    # The end

    def _guarded(self, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Treat an exception of the protocol as asyncio's transports do: report it and end this stream alone."""
        self._tunnel.loop.call_exception_handler(
            {"message": "a protocol on a tunnel stream failed", "exception": error, "transport": self}
        )
        self._tunnel.reset(self.mux)
        self._lose(error)

    def _drop_held(self) -> int:
        """Forget what nobody will take; return how much it was."""
        dropped = self._owed + sum(map(len, self._held or ()))
        self._held = None
        self._owed = 0
        self._tunnel.budget.forget(self)
        return dropped

    def _lose(self, error: Exception | None) -> None:
        if self._is_lost:
            return
        self._is_lost = True
        self._is_closing = True
        self._drop_held()
        self._tunnel.forget(self)
        self._tunnel.loop.call_soon(self._tell_lost, error)

    def _tell_lost(self, error: Exception | None) -> None:
        # The protocol is looked up now: it may have been replaced in between.
        protocol, self._protocol = self._protocol, _NOBODY
        protocol.connection_lost(error)

    def __repr__(self) -> str:
        state = "lost" if self._is_lost else "closing" if self._is_closing else self.mux.state.value
        return f"<TunnelStream {self.mux.id} {state}: {self.mux.unsent_bytes} bytes unsent>"
