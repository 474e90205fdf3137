"""Opaque bytes between two transports, both ways, with backpressure and half-close."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from sallyport.net.bulk_turns import BULK, BULK_BYTES, TIMED_BYTES, BulkTurns
from sallyport.net.clock import NEVER, Clock
from sallyport.net.splice import SPLICE_AFTER_BYTES, Splice, Splices
from sallyport.net.tls import unread_bytes
from sallyport.net.transports import is_plain_socket


class Filter(Protocol):
    """What may look at the bytes on their way down; it gives back what is to be sent."""

    def feed(self, data: bytes) -> bytes:
        """Take some bytes; give those that can go on now."""

    def finish(self) -> bytes:
        """Give what was held back: nothing follows."""


class Side(asyncio.Protocol):
    """One end. What arrives here is written to the other end."""

    __slots__ = (
        "_awaits_splice",
        "_holds",
        "_limits",
        "_relay",
        "_splice",
        "bytes",
        "filter",
        "has_ended",
        "is_lost",
        "other",
        "splice_at",
        "transport",
    )

    def __init__(self, relay: "Relay", transport: asyncio.Transport, through: Filter | None) -> None:
        self._relay = relay
        self.transport = transport
        self.filter = through
        self.bytes = 0
        self.has_ended = False
        self.is_lost = False
        self.splice_at = NEVER  # as many bytes must have come before the kernel moves the rest
        self._awaits_splice = False
        self._splice: Splice | None = None
        self._limits = (0, 0)  # of the other side's write buffer, where it is spliced to
        self._holds: set[str] = set()
        self.other: Side

    def data_received(self, data: bytes) -> None:
        self.bytes += len(data)
        bulk = self._relay.bulk
        if bulk is None or len(data) < TIMED_BYTES:
            self._take(data)
        elif self.filter is not None:
            bulk.take(self, data, self._take)
        else:
            self._pass(data)
            if len(data) >= BULK_BYTES:
                bulk.took(self)
        self._relay.touch()
        if self.bytes >= self.splice_at:
            self._prepare_splice()

    def _take(self, data: bytes) -> None:
        if self.filter is not None:
            data = self.filter.feed(data)
        if data:
            self._pass(data)

    def _pass(self, data: bytes) -> None:
        to = self.other.transport
        if to.is_closing():
            return  # uvloop's transports raise once they are closed, and that may be before they say so
        to.write(data)
        if to.get_write_buffer_size() > to.get_write_buffer_limits()[1]:
            # pause_writing() may have been told to the protocol before this one, and is not told again. The other
            # half is: resume_writing() comes to whoever has the transport when its buffer is low again.
            self.other.pause_writing()

    def hold_reading(self, reason: str) -> None:
        """Read nothing until every reason is gone."""
        if not self._holds and not self.transport.is_closing():
            if self._splice is None:
                self.transport.pause_reading()
            else:
                self._splice.hold()
        self._holds.add(reason)

    def resume_reading(self, reason: str) -> None:
        """Drop one reason."""
        self._holds.discard(reason)
        self.read_on()

    @property
    def turn_owner(self) -> object:
        """Whose relay it is."""
        return self._relay.turn_owner

    def await_turn(self, late: int) -> bool:
        """Read nothing until go_on()."""
        if self.is_lost or self.transport.is_closing():
            return False
        self.hold_reading(BULK)
        self._relay.late(self, late)
        return True

    def go_on(self, late: bytes) -> None:
        """Take what is late, and read on."""
        self._relay.late(self, 0)
        if late and not (self.is_lost or self.transport.is_closing()):
            self._take(late)
        self.resume_reading(BULK)

    def read_on(self) -> None:
        """Read, unless there is a reason not to."""
        if not self._holds and not self.transport.is_closing():
            if self._splice is None:
                self.transport.resume_reading()
            else:
                self._splice.read_on()

    @property
    def is_taken(self) -> bool:
        """Whether something has arrived here, and the other end has taken it."""
        waits = self.other.transport.get_write_buffer_size() if self._splice is None else self._splice.waiting
        return self.bytes > 0 and not waits

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
        if self._relay.bulk is not None:
            self._relay.bulk.leave(self)
        self._relay.taken(self)
        for side in (self, self.other):
            side.stop_splice()
        if not self.other.is_lost:
            self._flush()
            if error is None:
                self.other.transport.close()
            else:
                self._relay.cut(self.other.transport)
        self._relay.lost()

    def pause_writing(self) -> None:
        self.other.hold_reading("peer")
        self._relay.slow(self, self.transport.get_write_buffer_size() + unread_bytes(self.other.transport))

    def resume_writing(self) -> None:
        self._relay.taken(self)
        self.other.resume_reading("peer")
        self.other.splice_if_due()

    def _flush(self) -> None:
        if self.filter is not None:
            held = self.filter.finish()
            if held:
                self._pass(held)

    # Bulk that the kernel moves (splice.py). The transport itself reads nothing for as long as it does.

    def _prepare_splice(self) -> None:
        """Read no more until the other side has taken everything that was read."""
        assert self._relay.splices is not None, "splice_at is set where there are some"
        self.splice_at = self.bytes + SPLICE_AFTER_BYTES
        to = self.other.transport
        if self.transport.is_closing() or to.is_closing() or not self._relay.splices.has_room():
            return
        self.splice_at = NEVER
        self._awaits_splice = True
        self.hold_reading("splice")
        self._limits = to.get_write_buffer_limits()
        to.set_write_buffer_limits(0)  # resume_writing() then says that nothing waits any more
        if not to.get_write_buffer_size():
            self.splice_if_due()

    def splice_if_due(self) -> None:
        """Begin, if this is what the empty buffer of the other side was waited for."""
        if not self._awaits_splice or self.transport.is_closing() or self.other.transport.is_closing():
            return
        assert self._relay.splices is not None, "splice_at is set where there are some"
        self._awaits_splice = False
        self._splice = self._relay.splices.begin(self, self.transport, self.other.transport)
        if self._splice is None:
            self.read_again(b"")
        else:
            self.resume_reading("splice")

    def stop_splice(self) -> None:
        """One of the two transports is gone, and a descriptor of the splice would keep its socket open."""
        if self._splice is not None:
            self._splice.close()

    def spliced(self, size: int) -> None:
        self.bytes += size
        if size >= BULK_BYTES and self._relay.bulk is not None:
            self._relay.bulk.took(self)  # the kernel moves them
        self._relay.touch()

    def blocked(self, size: int) -> None:
        self._relay.slow(self.other, size)

    def drained(self) -> None:
        self._relay.taken(self.other)

    def fail(self) -> None:
        self._relay.abort()

    def read_again(self, rest: bytes) -> None:
        self._splice = None
        self.splice_at = self.bytes + SPLICE_AFTER_BYTES
        to = self.other.transport
        if not to.is_closing():
            low, high = self._limits
            to.set_write_buffer_limits(high, low)
        if rest:
            self._relay.taken(self.other)
            self._pass(rest)
        self.resume_reading("splice")


class Relay:
    """Two transports that are each other's peer. on_end(bytes up, bytes down) is called once, when both are gone."""

    __slots__ = ("_clock", "_down", "_idle_seconds", "_on_end", "_up", "bulk", "deadline_at", "filed_at", "splices")

    def __init__(
        self,
        clock: Clock,
        downstream: asyncio.Transport,
        upstream: asyncio.Transport,
        *,
        idle_seconds: float,
        on_end: Callable[[int, int], None],
        filter_down: Filter | None = None,
        bulk: BulkTurns | None = None,
        splices: Splices | None = None,
    ) -> None:
        self._clock = clock
        self._on_end = on_end
        self.bulk = bulk
        self.splices = splices
        self._idle_seconds = idle_seconds
        self._up = Side(self, downstream, None)
        self._down = Side(self, upstream, filter_down)
        self._up.other, self._down.other = self._down, self._up
        self.deadline_at = self.filed_at = NEVER

    def start(self, *, up: bytes, down: bytes) -> None:
        """Take the transports over; up and down are bytes that were read already."""
        for side in (self._up, self._down):
            side.transport.set_protocol(side)
        if self.splices is not None and is_plain_socket(self._up.transport) and is_plain_socket(self._down.transport):
            for side in (self._up, self._down):
                if side.filter is None:
                    side.splice_at = SPLICE_AFTER_BYTES
        self.touch()
        for side, early in ((self._up, up), (self._down, down)):
            if early:
                side.data_received(early)
            if side.transport.is_closing():
                # Its end was told to the protocol before this one.
                side.connection_lost(None)
            else:
                side.read_on()

    def end_up(self) -> None:
        """Say that the downstream had ended before start(): nothing more will come from it."""
        self._up.end()

    @property
    def turn_owner(self) -> object:
        """Whose turns its reading takes: its own."""
        return self

    @property
    def sides(self) -> tuple[Side, Side]:
        """Both ends, the downstream's first."""
        return self._up, self._down

    def slow(self, side: Side, size: int) -> None:
        """An end takes less than is written to it: so many bytes wait for it, and the other is not read."""

    def late(self, side: Side, size: int) -> None:
        """So many bytes were read at an end that wait for a turn of the loop; 0: none any more."""

    def taken(self, side: Side) -> None:
        """It has taken what waited, or is gone."""

    def touch(self) -> None:
        """Bytes moved: put the idle deadline off."""
        self._clock.watch(self, self._clock.now + self._idle_seconds)

    def lost(self) -> None:
        """One end is gone; when both are, the relay is over."""
        if self._up.is_lost and self._down.is_lost:
            self.deadline_at = NEVER
            up, down = self._up, self._down
            # In a ring they, and all that they hold, would wait for the collector.
            self._up = self._down = up.other = down.other = _GONE
            self._on_end(up.bytes, down.bytes)

    def cut(self, transport: asyncio.Transport) -> None:
        """End one side because the other was lost."""
        transport.abort()

    def expire(self) -> None:
        """Nothing moved for the idle time."""
        self.abort()

    def abort(self) -> None:
        """End both now."""
        self._up.transport.abort()
        self._down.transport.abort()

    def __repr__(self) -> str:
        if self._up is _GONE:
            return f"<{type(self).__name__}, over>"
        return f"<{type(self).__name__} {self._up.bytes} bytes up, {self._down.bytes} down>"


class _Closed(asyncio.Transport):
    """What is left of a transport."""

    def is_closing(self) -> bool:
        return True

    def abort(self) -> None:
        pass


def _gone() -> Side:
    """Make what stands where the sides of a relay were: one that has been over from the beginning."""
    relay = Relay.__new__(Relay)
    side = Side(relay, _Closed(), None)
    side.has_ended = side.is_lost = True
    side.other = relay._up = relay._down = side
    return side


_GONE: Final = _gone()
