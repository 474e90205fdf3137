"""Opaque bytes, both ways, with backpressure and half-close: passthrough CONNECT and what follows a 101."""

import asyncio
from collections.abc import Callable

from gateway.core.scrub import Scrubber
from gateway.parts import GatewayParts
from sallyport.net.clock import NEVER


class _Side(asyncio.Protocol):
    """One end. What arrives here is written to the other end."""

    __slots__ = ("_relay", "bytes", "has_ended", "is_lost", "other", "scrubber", "transport")

    def __init__(self, relay: "OpaqueRelay", transport: asyncio.Transport, scrubber: Scrubber | None) -> None:
        self._relay = relay
        self.transport = transport
        self.scrubber = scrubber
        self.bytes = 0
        self.has_ended = False
        self.is_lost = False
        self.other: _Side

    def data_received(self, data: bytes) -> None:
        self.bytes += len(data)
        if self.scrubber is not None:
            data = self.scrubber.feed(data)
        if data:
            self._pass(data)
        self._relay.touch()

    def _pass(self, data: bytes) -> None:
        to = self.other.transport
        if to.is_closing():
            return  # uvloop's transports raise once they are closed, and that may be before they say so
        to.write(data)
        if to.get_write_buffer_size() > to.get_write_buffer_limits()[1]:
            # pause_writing() may have been told to the protocol before this one, and is not told again. The other
            # half is: resume_writing() comes to whoever has the transport when its buffer is low again.
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        self.end()
        return not self.other.has_ended

    def end(self) -> None:
        """This end sends no more: pass the half-close on, and close when both have."""
        if self.has_ended:
            return
        self.has_ended = True
        self._flush()
        if self.other.has_ended:
            self.transport.close()
            self.other.transport.close()
        elif self.other.transport.can_write_eof() and not self.other.transport.is_closing():
            self.other.transport.write_eof()

    def connection_lost(self, error: Exception | None) -> None:
        if self.is_lost:
            return  # start() has found it closing, and now the transport says so
        self.is_lost = True
        if not self.other.is_lost:
            self._flush()
            if error is None:
                self.other.transport.close()
            else:
                self.other.transport.abort()
        self._relay.lost()

    def pause_writing(self) -> None:
        self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        self.other.transport.resume_reading()

    def _flush(self) -> None:
        if self.scrubber is not None:
            held = self.scrubber.finish()
            if held:
                self._pass(held)


class OpaqueRelay:
    """Two transports that are each other's peer. on_end(bytes up, bytes down) is called once, when both are gone."""

    __slots__ = ("_down", "_idle_timeout", "_on_end", "_parts", "_up", "deadline_at", "filed_at")

    def __init__(
        self,
        parts: GatewayParts,
        downstream: asyncio.Transport,
        upstream: asyncio.Transport,
        *,
        scrubber: Scrubber | None,
        on_end: Callable[[int, int], None],
    ) -> None:
        self._parts = parts
        self._on_end = on_end
        self._idle_timeout = parts.timeouts.opaque_idle
        self._up = _Side(self, downstream, None)
        self._down = _Side(self, upstream, scrubber)
        self._up.other, self._down.other = self._down, self._up
        self.deadline_at = self.filed_at = NEVER

    def start(self, *, up: bytes, down: bytes) -> None:
        """Take the transports over; up and down are bytes that were read already."""
        for side in (self._up, self._down):
            side.transport.set_protocol(side)
        self.touch()
        for side, early in ((self._up, up), (self._down, down)):
            if early:
                side.data_received(early)
            if side.transport.is_closing():
                # Its end was told to the protocol before this one.
                side.connection_lost(None)
            else:
                side.transport.resume_reading()

    def touch(self) -> None:
        """Bytes moved: put the idle deadline off."""
        clock = self._parts.clock
        clock.watch(self, clock.now + self._idle_timeout)

    def lost(self) -> None:
        """One end is gone; when both are, the relay is over."""
        if self._up.is_lost and self._down.is_lost:
            self.deadline_at = NEVER
            self._on_end(self._up.bytes, self._down.bytes)

    def expire(self) -> None:
        """Nothing moved for timeouts.opaque_idle."""
        self.abort()

    def abort(self) -> None:
        """End both now."""
        self._up.transport.abort()
        self._down.transport.abort()

    def __repr__(self) -> str:
        return f"<OpaqueRelay {self._up.bytes} bytes up, {self._down.bytes} down>"
