"""A tunnel: one WebSocket, inside it one yamux session, inside that the streams. The same on both sides.

Bytes travel: transport.data_received -> MessageReader (wire/websocket.py) -> Session (wire/yamux/session.py) ->
TunnelStream -> the protocol of the stream; and TunnelStream.write -> Session, then once per turn of the loop
Sending.take -> one WebSocket message -> transport.write. What is written from inside data_received goes out at
its end, so an answer made there costs no further turn.
"""

import asyncio
import json
import os
import socket
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Final, Protocol

from sallyport.net.buffer_budget import BufferBudget
from sallyport.net.clock import NEVER, Clock, read_clock
from sallyport.net.tunnel_limits import (
    CLOSE_SECONDS,
    DEFAULT_LIMITS,
    FLUSH_BYTES,
    LARGE_PIECE_BYTES,
    MAX_UNREAD_BYTES,
    NOT_SENT_BYTES,
    ORPHAN_SECONDS,
    SLICE_BYTES,
    TURN_PIECES,
    TURN_SECONDS,
    TunnelLimits,
)
from sallyport.net.tunnel_pace import TunnelPace
from sallyport.net.tunnel_stream import TunnelStream
from sallyport.wire import websocket
from sallyport.wire.errors import LocalProtocolError, RemoteProtocolError
from sallyport.wire.websocket import MAX_MESSAGE_BYTES, MessageReader
from sallyport.wire.yamux.frames import INTERNAL_ERROR, NORMAL, PROTOCOL_ERROR
from sallyport.wire.yamux.session import Session
from sallyport.wire.yamux.stream import MuxStream


class TunnelUnavailable(Exception):
    """No stream can be opened: the tunnel has ended, is going away, or has as many as it may."""


class TunnelOwner(Protocol):
    """What a tunnel calls."""

    def stream_opened(self, stream: TunnelStream) -> asyncio.Protocol:
        """The peer opened a stream; what is returned gets connection_made(stream), then its bytes."""

    def control_received(self, text: bytes) -> None:
        """One text message, valid UTF-8, not parsed."""

    def tunnel_lost(self, code: int | None, reason: str) -> None:
        """The tunnel has ended: exactly once. code is the close code, the peer's or ours, if there was one."""


class _State(Enum):
    NEW = "new"
    OPEN = "open"
    CLOSING = "closing"  # a close frame has gone out, or nothing can; only the end is waited for
    LOST = "lost"


_OPEN: Final = _State.OPEN
_UNSTARTED: Final = asyncio.Transport()
# Go-away codes by close code; every other end is a normal one.
_GO_AWAY: Final = {websocket.PROTOCOL: PROTOCOL_ERROR, websocket.INTERNAL: INTERNAL_ERROR}


class Tunnel(asyncio.Protocol):
    """One tunnel. Nothing a peer sends raises out of it: what breaks the protocol closes it with 1008."""

    __slots__ = (
        "_clock",
        "_end_code",
        "_end_reason",
        "_flush_scheduled",
        "_given",
        "_in_line",
        "_is_client",
        "_is_deaf",
        "_is_flushing",
        "_is_receiving",
        "_orphans",
        "_owner",
        "_pace",
        "_ping_sent_at",
        "_pinged_at",
        "_pings",
        "_reader",
        "_state",
        "_streams",
        "_turn_began",
        "_turn_scheduled",
        "_unread",
        "_writing_paused",
        "budget",
        "bytes_in",
        "bytes_out",
        "deadline_at",
        "filed_at",
        "limits",
        "loop",
        "round_trip",
        "session",
        "transport",
    )

    def __init__(
        self,
        owner: TunnelOwner,
        *,
        is_client: bool,
        clock: Clock,
        budget: BufferBudget,
        limits: TunnelLimits = DEFAULT_LIMITS,
        pace: TunnelPace | None = None,
    ) -> None:
        """pace is what the peer has left; None goes for a gateway, which is trusted.

        It resets what many sandboxes' destinations have ended, as often as that is.
        """
        self._owner = owner
        self._is_client = is_client
        self._clock = clock
        self.budget = budget
        self.limits = limits
        self.loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport = _UNSTARTED
        self.session = Session(
            self, is_client=is_client, max_streams=limits.max_streams, accept_backlog=limits.accept_backlog
        )
        self._reader = MessageReader(self, is_client=is_client)
        self._pace = pace
        self._state = _State.NEW
        self._is_receiving = False  # inside data_received: what is to be sent goes out at its end
        # Left for the next turn, while either is there the transport reads nothing: bytes, and streams that hold some.
        self._unread = b""
        self._in_line: dict[TunnelStream, None] = {}
        self._given = 0  # pieces in this turn, large ones each for TURN_PIECES
        self._turn_began = 0.0
        self._turn_scheduled = False
        self._is_flushing = False
        self._flush_scheduled = False
        self._writing_paused = False
        self._is_deaf = False  # the peer broke the protocol: what it sends is not read any more
        self._end_code: int | None = None
        self._end_reason = ""
        # Told of the end: also streams whose two halves have ended, which the session knows no more.
        self._streams: set[TunnelStream] = set()
        self._orphans: dict[MuxStream, float] | None = None
        self._pings = 0
        self._pinged_at = 0.0  # by the clock of all deadlines
        self._ping_sent_at = 0.0  # exactly, for the round trip
        # The shortest round trip seen: a longer one was longer by what waited before it. 0: none yet.
        self.round_trip = 0.0
        self.bytes_in = 0
        self.bytes_out = 0
        self.deadline_at = NEVER
        self.filed_at = NEVER

    def start(self, transport: asyncio.Transport, early: bytes = b"") -> None:
        """Take the transport over, once the WebSocket is open; early is what came behind the peer's head."""
        self.transport = transport
        self._state = _OPEN
        transport.set_protocol(self)
        _limit_unsent(transport)
        if transport.is_closing():  # its connection_lost may have gone to the protocol before this one
            self.loop.call_soon(self.connection_lost, ConnectionAbortedError("closed before the tunnel began"))
            return
        self._ping()
        if early:
            self.data_received(early)
        else:
            self.schedule_flush()

    # What owners call --------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether streams and control messages travel; False from the first sign of the end."""
        return self._state is _OPEN

    @property
    def can_open(self) -> bool:
        """Whether open_stream would be obeyed."""
        return self._state is _OPEN and self.session.may_open

    @property
    def stream_count(self) -> int:
        """Streams that are open, of both sides."""
        return self.session.count

    def open_stream(self, protocol: asyncio.Protocol) -> TunnelStream:
        """Open a stream; connection_made is called before this returns. Raises TunnelUnavailable.

        The SYN travels with the first bytes. The peer may still refuse: then the stream is reset.
        """
        if not self.can_open:
            raise TunnelUnavailable("the tunnel takes no more streams" if self.is_open else "the tunnel has ended")
        stream = TunnelStream(self)
        stream.mux = self.session.open(stream)
        self._streams.add(stream)
        stream.begin(protocol)
        self.schedule_flush()
        return stream

    def send_control(self, document: Mapping[str, object]) -> None:
        """Send one JSON document. Nothing happens on a tunnel that has ended; LocalProtocolError beyond 64 KiB."""
        text = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
        if len(text) > MAX_MESSAGE_BYTES:
            raise LocalProtocolError(f"a control message of {len(text)} bytes")
        if self._state is _OPEN:
            self._send(websocket.TEXT, text)

    def go_away(self) -> None:
        """Let nobody open a stream any more; those that are open go on."""
        if self._state is _OPEN:
            self.session.go_away(NORMAL)
            self.schedule_flush()

    def close(self, code: int, reason: str) -> None:
        """Send what is ready, then a close frame; end the transport after at most CLOSE_SECONDS.

        Streams end now. Who wants theirs to finish closes the tunnel afterwards.
        """
        if self._state is not _OPEN:
            return
        self.session.go_away(_GO_AWAY.get(code, NORMAL))
        self._flush()
        self._end(code, reason)
        self._send(websocket.CLOSE, websocket.close_payload(code, reason))

    def abort(self) -> None:
        """End at once, without a word."""
        if self._state is not _State.NEW:
            self._end(None, "aborted here")
            self.transport.abort()

    # What the transport calls ------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self.bytes_in += len(data)
        if self._unread or self._in_line:
            self._unread += data
            return
        self._given = 0
        if len(data) <= SLICE_BYTES:
            self._take(data)
        else:
            self._take_slices(data)
        if self._unread or self._in_line:
            self._schedule_turn()

    def _schedule_turn(self) -> None:
        """Read nothing until the streams in line have had theirs and what was read is taken."""
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self.transport.pause_reading()
            self.loop.call_soon(self._next_turn)

    def _take_slices(self, data: bytes) -> None:
        """Take as much as a turn allows, and leave the rest for the next."""
        began = read_clock()
        for at in range(0, len(data), SLICE_BYTES):
            if at and (self._in_line or read_clock() - began > TURN_SECONDS):
                self._unread = data[at:]
                return
            self._take(data[at : at + SLICE_BYTES])

    def _next_turn(self) -> None:
        if self._state is _State.LOST:
            return
        if self._in_line:
            self._give_turns()
        if not self._in_line:
            data, self._unread = self._unread, b""
            self._given = 0
            self._take_slices(data)
        if self._unread or self._in_line:
            self.loop.call_soon(self._next_turn)
        else:
            self._turn_scheduled = False
            self.transport.resume_reading()

    def _give_turns(self) -> None:
        """Let the streams in line have a piece each, as long as a turn lasts."""
        began = read_clock()
        self._is_receiving = True
        while self._in_line:
            stream = next(iter(self._in_line))
            del self._in_line[stream]
            if stream.take_turn():
                self._in_line[stream] = None  # behind the others
            if read_clock() - began > TURN_SECONDS:
                break
        self._is_receiving = False
        if self.session.sending.is_ready:
            self._flush()

    def _take(self, data: bytes) -> None:
        if self._is_deaf:
            return
        self._is_receiving = True
        try:
            self._reader.feed(data)
        except RemoteProtocolError as error:
            self._break(websocket.PROTOCOL, error.reason)
        except Exception as error:
            self._report(error)
        finally:
            self._is_receiving = False
        if self.session.sending.is_ready:
            self._flush()

    def eof_received(self) -> bool:
        self._end(None, "the peer ended the connection without a close frame")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._state is _State.LOST:
            return
        self._end(None, "the connection was lost" if exc is None else f"the connection was lost: {exc}")
        self._state = _State.LOST
        self._clock.watch(self, NEVER)
        self._owner.tunnel_lost(self._end_code, self._end_reason)

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._flush()

    # What the clock calls

    def expire(self) -> None:
        """Send the next ping, or give up on a peer that does not answer; or on one that does not close."""
        if self._state is not _OPEN:
            self.transport.abort()
            return
        if self.session.is_ping_unanswered and self._clock.now - self._pinged_at >= self.limits.dead_seconds:
            self._end(None, "the peer answers no ping")
            self.transport.abort()
            return
        self._reset_orphans()
        self._ping()
        self.schedule_flush()

    # What the reader calls ---------------------------------------------------------------------------

    def binary_received(self, data: bytes) -> None:
        if self._state is _OPEN:
            if not data:
                self.empty_received()
            self.session.receive(data)

    def text_received(self, data: bytes) -> None:
        if self._state is _OPEN:
            if self._pace is not None:
                self._pace.control(self._clock.now)
            self._owner.control_received(data)

    def ping_received(self, payload: bytes) -> None:
        if self._state is _OPEN:
            self.pinged()
            self._send(websocket.PONG, payload)

    def close_received(self, code: int | None, reason: str) -> None:
        if self._state is _OPEN:
            self._end(code, reason if reason.isprintable() else ascii(reason))
            self._send(websocket.CLOSE, b"" if code is None else code.to_bytes(2))
        self.transport.close()

    # What the session calls --------------------------------------------------------------------------

    def stream_opened(self, mux: MuxStream) -> None:
        stream = TunnelStream(self)
        stream.mux = mux
        mux.sink = stream
        self._streams.add(stream)
        try:
            protocol = self._owner.stream_opened(stream)
        except Exception as error:
            self.loop.call_exception_handler({"message": "a tunnel's owner failed", "exception": error})
            self.session.reset(mux)
            protocol = asyncio.Protocol()
        stream.begin(protocol)

    def ping_answered(self) -> None:
        round_trip = read_clock() - self._ping_sent_at
        self.round_trip = min(self.round_trip or round_trip, round_trip)

    def pinged(self) -> None:
        if self._pace is not None:
            self._pace.ping(self._clock.now)

    def reset_received(self) -> None:
        if self._pace is not None:
            self._pace.reset(self._clock.now)

    def empty_received(self) -> None:
        if self._pace is not None:
            self._pace.empty_frame(self._clock.now)

    def go_away_received(self, code: int) -> None:
        """Nothing to do: open_stream asks the session."""

    # What streams call -------------------------------------------------------------------------------

    def schedule_flush(self) -> None:
        """Send what is ready in this turn of the loop, once for all who wrote in it."""
        if not (self._flush_scheduled or self._is_receiving or self._writing_paused):
            self._flush_scheduled = True
            self.loop.call_soon(self._flush)

    def has_turn(self, stream: TunnelStream, size: int) -> bool:
        """Whether a stream may have a piece of size now; else it holds it and is asked to take it in a later turn.

        A message of small requests would hold up everybody else for as long as all of them take together.
        """
        if not self._in_line:
            given = self._given
            if size < LARGE_PIECE_BYTES:
                self._given = given + 1
                if self._given % TURN_PIECES:
                    return True
            else:
                self._given = given + TURN_PIECES
            now = read_clock()
            if given < TURN_PIECES:  # it was not looked at before
                self._turn_began = now
            if now - self._turn_began <= TURN_SECONDS:
                return True
        self._in_line[stream] = None
        return False

    def wait_for_turn(self, stream: TunnelStream) -> None:
        """Let a stream that reads again take what it holds piece by piece, in turns of its own and others'.

        All at once it, or a thousand that resume together, would hold up everybody else.
        """
        self._in_line[stream] = None
        self._schedule_turn()

    def reset(self, mux: MuxStream) -> None:
        """Reset a stream."""
        self.session.reset(mux)
        self.schedule_flush()

    def forget(self, stream: TunnelStream) -> None:
        """Note that a stream's protocol will be told that it is lost."""
        self._streams.discard(stream)

    def orphaned(self, mux: MuxStream) -> None:
        """Note a stream that is closed here and that the peer has not ended."""
        if self._orphans is None:
            self._orphans = {}
        self._orphans[mux] = self._clock.now

    def orphan_ended(self, mux: MuxStream) -> None:
        """Note that the peer has ended it."""
        if self._orphans is not None:
            self._orphans.pop(mux, None)

    def _reset_orphans(self) -> None:
        for mux, since in list((self._orphans or {}).items()):
            if self._clock.now - since >= ORPHAN_SECONDS:
                self.orphan_ended(mux)
                self.session.reset(mux)

    # Sending -----------------------------------------------------------------------------------------

    def _flush(self) -> None:
        self._flush_scheduled = False
        # A stream that is told of its progress may write, close the tunnel, or do anything else.
        if self._is_flushing:
            return
        self._is_flushing = True
        try:
            self._send_ready()
        except Exception as error:
            self._report(error)
        finally:
            self._is_flushing = False

    def _send_ready(self) -> None:
        """Send what is ready, in messages of many frames, until the transport has enough."""
        sending = self.session.sending
        room = FLUSH_BYTES
        while self._state is _OPEN and not self._writing_paused:
            if room <= 0:
                self.schedule_flush()
                return
            parts = sending.take(MAX_MESSAGE_BYTES)
            if not parts or not self.is_open:  # a stream may have closed the tunnel
                return
            if self._is_client:
                data = websocket.message(websocket.BINARY, b"".join(parts), next(_masks))
            else:
                data = b"".join((websocket.message_start(websocket.BINARY, sum(map(len, parts))), *parts))
            room -= len(data)
            self.bytes_out += len(data)
            self.transport.write(data)
            if not sending.is_ready:
                return

    def _send(self, opcode: int, payload: bytes) -> None:
        """Send one message that is not of the session, now."""
        if self.transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            self._end(None, "the peer does not read")
            self.transport.abort()
            return
        data = websocket.message(opcode, payload, next(_masks) if self._is_client else None)
        self.bytes_out += len(data)
        self.transport.write(data)

    def _ping(self) -> None:
        if self.session.ping(self._pings & 0xFFFFFFFF):
            self._pings += 1
            self._pinged_at = self._clock.now
            self._ping_sent_at = read_clock()
        self._clock.watch(self, self._clock.now + self.limits.ping_seconds)

    # Ends --------------------------------------------------------------------------------------------

    def _report(self, error: Exception) -> None:
        """Close because of a defect of ours."""
        self.loop.call_exception_handler({"message": "a tunnel failed", "exception": error, "protocol": self})
        self._break(websocket.INTERNAL, "internal error")

    def _break(self, code: int, reason: str) -> None:
        """Close because of what came; nothing more is read, and the transport ends when the peer ends it."""
        self._is_deaf = True
        if self._state is _OPEN:
            self.close(code, reason)
        else:
            self.transport.close()

    def _end(self, code: int | None, reason: str) -> None:
        """Leave the open state, for the first reason that came; the streams end with it."""
        if self._state not in (_State.NEW, _OPEN):
            return
        self._state = _State.CLOSING
        self._end_code = code
        self._end_reason = reason
        self._orphans = None
        self._in_line.clear()
        self.session.give_up()
        for stream in list(self._streams):
            stream.tunnel_ended()
        self._clock.watch(self, self._clock.now + CLOSE_SECONDS)

    def __repr__(self) -> str:
        return f"<Tunnel {self._state.value}: {self.stream_count} streams>"


def _limit_unsent(transport: asyncio.Transport) -> None:
    """Keep the kernel's queue short, where there is a kernel: what lies there has left our order of turns."""
    plain_socket = transport.get_extra_info("socket")
    if plain_socket is not None and plain_socket.family in (socket.AF_INET, socket.AF_INET6):
        plain_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOT_SENT_BYTES)


def _mask_source() -> Iterator[bytes]:
    """Give masks that nobody can foresee (RFC 6455 section 10.3), for one system call in a thousand."""
    while True:
        pool = os.urandom(4096)
        for at in range(0, len(pool), 4):
            yield pool[at : at + 4]


_masks: Final = _mask_source()
