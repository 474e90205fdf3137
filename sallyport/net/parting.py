"""The last answer on a connection: written, and given time to arrive."""

import asyncio
from collections.abc import Callable
from typing import Final

from sallyport.net.clock import NEVER, Clock

# Closing at once would reset a connection whose process is still sending, and could take the answer with it
# (RFC 9112 section 9.6).
LINGER_SECONDS: Final = 2.0
LINGER_BYTES: Final = 4 * 1024 * 1024


class Parting(asyncio.Protocol):
    """Write one answer and end the connection; what still comes is read and dropped.

    `on_end` is called once, when the transport is gone.
    """

    __slots__ = ("_answer", "_clock", "_discarded", "_on_end", "_transport", "deadline_at", "filed_at")

    def __init__(
        self, clock: Clock, transport: asyncio.Transport, answer: bytes, on_end: Callable[[], None] | None
    ) -> None:
        self._clock = clock
        self._transport = transport
        self._answer = answer
        self._on_end = on_end
        self._discarded = 0
        self.deadline_at = self.filed_at = NEVER

    def begin(self) -> None:
        """Take the transport over and answer."""
        self._take_over()
        if not self._transport.is_closing():
            self._tell()

    def begin_when_asked(self, seconds: float) -> None:
        """Take the transport over and answer the first bytes that come, if they come in time.

        Inside TLS nothing may be said before it: Go and others take an answer to nothing for a broken connection.
        """
        self._take_over()
        self._clock.watch(self, self._clock.now + seconds)

    def _take_over(self) -> None:
        self._transport.set_protocol(self)
        if self._transport.is_closing():
            self.connection_lost(None)  # its end may have been told to the protocol before this one
        else:
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self._answer:
            self._tell()
        self._discarded += len(data)
        if self._discarded > LINGER_BYTES:
            self._transport.abort()

    def _tell(self) -> None:
        answer, self._answer = self._answer, b""
        self._transport.write(answer)
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._clock.watch(self, self._clock.now + LINGER_SECONDS)

    def eof_received(self) -> bool:
        if self._answer:
            # It asks nothing more, and may still read.
            self._tell()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._clock.watch(self, NEVER)
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()

    def expire(self) -> None:
        self._transport.close()
        if self._transport.get_write_buffer_size():
            self._transport.abort()

    def __repr__(self) -> str:
        return f"<Parting {'to be told' if self._answer else 'told'}>"
