"""One stream of the tunnel, from the wish for it to the gateway's answer.

Nothing of the sandbox process has gone up before the answer, so what is lost here can be opened again.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

from sallyport.net.clock import NEVER
from sallyport.net.tunnel import TunnelUnavailable
from sallyport.problem import Code
from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.codec import parse_response
from sallyport.wire.http1.head import ResponseHead
from sallyport.wire.http1.scan import HEAD_END
from sandboxd.core.intake import Refused
from sandboxd.gateway_side import Opener
from sandboxd.parts import SandboxdParts

ADMITTED = 200
_MISDIRECTED = 421
_STALE = b"x-sallyport-error:stale_interception"


class OpeningSink(Protocol):
    """Who wants the stream. Exactly one of these is called, once."""

    def stream_admitted(self, stream: asyncio.Transport, early: bytes) -> None:
        """Bytes may flow; reading is paused, and early is what came behind the answer."""

    def stream_refused(self, answer: bytes) -> None:
        """The gateway's answer, whole, or one of ours where there is none."""

    def stream_stale(self) -> None:
        """The gateway called our managed set old, and a newer one is here: decide anew."""


class StreamOpening(asyncio.Protocol):
    """Ask for one stream. `head` writes its first bytes for a revision of the managed set.

    Without a tunnel it waits for one, up to timeouts.hold; and for a newer set after 421 stale_interception, where
    `may_retry`. A stream that is not `is_answered` (plain requests) is admitted as soon as it is open.
    """

    __slots__ = (
        "_answer",
        "_buffer",
        "_due_at",
        "_head",
        "_is_answered",
        "_is_over",
        "_may_retry",
        "_method",
        "_parts",
        "_revision",
        "_sink",
        "_stale",
        "_stream",
        "_tunnel",
        "deadline_at",
        "filed_at",
    )

    def __init__(
        self,
        parts: SandboxdParts,
        sink: OpeningSink,
        head: Callable[[int], bytes],
        *,
        method: str,
        is_answered: bool = True,
        may_retry: bool = True,
    ) -> None:
        self._parts = parts
        self._sink = sink
        self._head = head
        self._method = method
        self._is_answered = is_answered
        self._may_retry = may_retry
        self._due_at = parts.clock.now + parts.timeouts.hold
        self._stream: asyncio.Transport | None = None
        self._tunnel: Opener | None = None
        self._answer: ResponseHead | None = None
        self._stale = b""  # the gateway's answer, while a newer set is waited for
        self._buffer = b""
        self._revision = -1
        self._is_over = False
        self.deadline_at = self.filed_at = NEVER

    def start(self) -> None:
        """Open the stream now or as soon as there is a tunnel."""
        gateway = self._parts.gateway
        managed = gateway.managed
        assert managed is not None, "a stream is wanted after the managed set has decided so"
        self._tunnel = gateway.tunnel
        self._revision = managed.revision
        self._buffer = b""
        self._answer = None
        try:
            # connection_made comes before this returns, and admits what is not answered.
            gateway.open_stream(self)
        except TunnelUnavailable:
            self._hold()

    def give_up(self) -> None:
        """Nobody wants the stream any more."""
        if not self._is_over:
            self._leave()
            if self._stream is not None:
                self._stream.abort()

    # Waiting

    def _hold(self) -> None:
        self._stream = None
        self._parts.gateway.wait(self)
        self._parts.clock.watch(self, self._due_at)

    def gateway_changed(self) -> None:
        """There is a new tunnel or a new set."""
        gateway = self._parts.gateway
        if not self._stale:
            gateway.leave(self)
            self.start()
        elif gateway.managed is not None and gateway.managed.revision != self._revision:
            self._leave()
            self._sink.stream_stale()

    def expire(self) -> None:
        """It took too long: the tunnel, the answer, or the newer set."""
        if self._is_over:
            return
        if self._stale:
            self._refuse_with(self._stale)
        elif self._stream is None:
            self._refuse(self._parts.no_stream())
        else:
            self._stream.abort()
            self._refuse(Refused(Code.UPSTREAM_TIMEOUT, "the gateway did not answer in time"))

    # The stream

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        parts = self._parts
        self._stream = stream = cast(asyncio.Transport, transport)
        stream.set_write_buffer_limits(high=parts.limits.write_buffer_bytes)
        stream.write(self._head(self._revision))
        if self._is_answered:
            parts.clock.watch(self, parts.clock.now + parts.timeouts.answer)
        else:
            self._admit(b"")

    def data_received(self, data: bytes) -> None:
        """Read the one answer."""
        if self._is_over or self._stale:
            return
        self._buffer += data
        if self._answer is not None:
            self._collect()
            return
        end = self._buffer.find(HEAD_END)
        if max(end, len(self._buffer) if end < 0 else 0) > self._parts.limits.head_bytes:
            self._break("the gateway's answer is too long")
        elif end >= 0:
            try:
                self._answer = parse_response(self._buffer[:end])
            except RemoteProtocolError as error:
                self._break(error.reason)
                return
            if self._answer.status == ADMITTED:
                self._admit(self._buffer[end + len(HEAD_END) :])
            else:
                self._collect()

    def _collect(self) -> None:
        """Wait for the whole of a refusal; the gateway's are small and say how long they are."""
        assert self._answer is not None, "its head was read"
        start = self._buffer.index(HEAD_END) + len(HEAD_END)
        length = self._answer.body or 0
        if not 0 <= length <= self._parts.limits.head_bytes:
            self._break("the gateway's refusal has no possible length")
        elif len(self._buffer) >= start + length:
            self._told(self._answer, self._buffer[: start + length])

    def _told(self, answer: ResponseHead, whole: bytes) -> None:
        assert self._stream is not None, "it answered"
        stream, self._stream = self._stream, None
        stream.abort()
        is_stale = answer.status == _MISDIRECTED and any(_is_stale(line) for line in answer.lines)
        if is_stale and self._may_retry:
            self._stale = whole
            self._due_at = self._parts.clock.now + self._parts.timeouts.hold
            self._parts.gateway.wait(self)
            self._parts.clock.watch(self, self._due_at)
            self.gateway_changed()  # the newer set may have overtaken the answer
        else:
            self._refuse_with(whole)

    def eof_received(self) -> bool:
        """End: nothing can follow. Where bytes are already relayed this is not called any more."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The stream was lost before its answer. With its tunnel: open it again in the next one."""
        if self._is_over or self._stream is None:
            return
        self._stream = None
        # The tunnel tells its own end after those of its streams.
        self._parts.loop.call_soon(self._look_after_loss)

    def _look_after_loss(self) -> None:
        if self._is_over:
            return
        gateway = self._parts.gateway
        if gateway.tunnel is self._tunnel and self._tunnel is not None and self._tunnel.is_open:
            self._refuse(Refused(Code.OVERLOADED, "the gateway reset the stream"))
        elif self._parts.clock.now >= self._due_at:
            self._refuse(self._parts.no_stream())
        elif gateway.tunnel is not None and gateway.tunnel is not self._tunnel:
            self.start()
        else:
            self._hold()

    # Ends

    def _admit(self, early: bytes) -> None:
        assert self._stream is not None, "it is open"
        self._leave()
        self._stream.pause_reading()
        self._sink.stream_admitted(self._stream, early)

    def _break(self, reason: str) -> None:
        self._parts.log.warning("gateway_answer_refused", detail=reason)
        if self._stream is not None:
            self._stream.abort()
        self._refuse(Refused(Code.UPSTREAM_PROTOCOL_ERROR, "the gateway's answer cannot be read"))

    def _refuse(self, refused: Refused) -> None:
        self._refuse_with(self._parts.answer(refused.code, refused.detail, method=self._method))

    def _refuse_with(self, answer: bytes) -> None:
        self._leave()
        self._sink.stream_refused(answer)

    def _leave(self) -> None:
        self._is_over = True
        self._parts.gateway.leave(self)
        self._parts.clock.watch(self, NEVER)

    def __repr__(self) -> str:
        state = "over" if self._is_over else "stale" if self._stale else "asked" if self._stream else "waiting"
        return f"<StreamOpening {state}>"


def _is_stale(line: bytes) -> bool:
    return line.lower().replace(b" ", b"") == _STALE
