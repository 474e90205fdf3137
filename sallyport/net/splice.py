"""One direction of a relay, moved by the kernel: from a socket to a pipe and on to a socket, and never through Python.

Bulk costs half of what it costs when it is read and written (docs/performance.md), but the set-up costs more than a
short flow: whoever relays begins in the ordinary way and comes here after SPLICE_AFTER_BYTES.
"""

import asyncio
import errno
import fcntl
import os
from typing import Final, Protocol

from sallyport.net.clock import Clock

# By then the set-up is a few per cent of what the direction has cost.
SPLICE_AFTER_BYTES: Final = 256 * 1024
# What is moved at once, and what a pipe holds: as much as libuv reads at once.
PIPE_BYTES: Final = 256 * 1024
# Who has moved nothing for so long makes room for who has bulk now.
QUIET_SECONDS: Final = 1.0

# The kernel, or what stands in its place, does not do it between these two.
_REFUSALS: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP})


class SplicedReader(Protocol):
    """Whose direction is spliced: it does not read until it is told to."""

    def spliced(self, size: int) -> None:
        """So many bytes were taken from the source."""

    def blocked(self, size: int) -> None:
        """The sink does not take so many bytes that were taken from the source."""

    def drained(self) -> None:
        """Now it has."""

    def end(self) -> None:
        """The source sends no more, and all it sent has gone on."""

    def fail(self) -> None:
        """One of the two sockets is broken."""

    def read_again(self, rest: bytes) -> None:
        """Go on in the ordinary way; rest was taken from the source and has yet to be written."""


class Splices:
    """The splices of a process: so many at once, since each takes four descriptors."""

    def __init__(self, clock: Clock, limit: int) -> None:
        self._clock = clock
        self._limit = limit if hasattr(os, "splice") else 0
        self._open: set[Splice] = set()

    def begin(self, reader: SplicedReader, source: asyncio.Transport, sink: asyncio.Transport) -> "Splice | None":
        """Move what comes from source to sink, once it is to read; None where that cannot be.

        Both are plain sockets, source is not being read and nothing waits to be written to sink.
        """
        if not self.has_room():
            return None
        if len(self._open) >= self._limit:
            self._quietest().give_back()
        try:
            splice = Splice(self, self._clock, reader, source, sink)
        except OSError:
            return None
        self._open.add(splice)
        return splice

    def has_room(self) -> bool:
        """Whether one more may begin now, if need be in the place of one that is quiet, or whose sink takes nothing."""
        if len(self._open) < self._limit:
            return True
        if not self._open:
            return False
        return self._quietest().moved_at + QUIET_SECONDS <= self._clock.now

    def _quietest(self) -> "Splice":
        return min(self._open, key=lambda splice: splice.moved_at)

    def ended(self, splice: "Splice") -> None:
        """One more may begin."""
        self._open.discard(splice)

    def refused(self) -> None:
        """The kernel does not do it: nobody tries again."""
        self._limit = 0

    def __len__(self) -> int:
        return len(self._open)

    def __repr__(self) -> str:
        return f"<Splices: {len(self._open)} of {self._limit}>"


class Splice:
    """One direction. It reads when its pipe is empty, so what it holds is bounded by a pipe."""

    __slots__ = (
        "_clock",
        "_descriptors",
        "_is_held",
        "_is_open",
        "_is_reading",
        "_is_writing",
        "_loop",
        "_reader",
        "_sink",
        "_source",
        "_splices",
        "moved_at",
        "waiting",
    )

    def __init__(
        self,
        splices: Splices,
        clock: Clock,
        reader: SplicedReader,
        source: asyncio.Transport,
        sink: asyncio.Transport,
    ) -> None:
        """Open what is needed; nothing is read before read_on(). OSError."""
        self._splices = splices
        self._clock = clock
        self._reader = reader
        self._source = source
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._descriptors = _open_descriptors(source, sink)
        self.moved_at = clock.now
        self.waiting = 0  # in the pipe
        self._is_held = True
        self._is_open = True
        self._is_reading = self._is_writing = False

    def hold(self) -> None:
        """Take nothing from the source for now."""
        self._is_held = True
        self._watch()

    def read_on(self) -> None:
        """Take what the source has from now on."""
        self._is_held = False
        self._watch()

    def close(self) -> None:
        """Give everything back; what waits in the pipe is lost. The sockets stay open if they are somebody else's."""
        if self._is_open:
            self._is_open = False
            self._watch()
            for descriptor in self._descriptors:
                os.close(descriptor)
            self._splices.ended(self)

    def give_back(self) -> None:
        """Let the reader go on, with what waits in the pipe."""
        rest = os.read(self._descriptors[2], self.waiting) if self.waiting else b""
        self.close()
        self._reader.read_again(rest)

    # What the loop says

    def _readable(self) -> None:
        if self._is_over():
            return
        source, _, _, pipe_in = self._descriptors
        try:
            size = os.splice(source, pipe_in, PIPE_BYTES, flags=os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(error)
            return
        if not size:
            self.close()
            self._reader.end()
            return
        self.moved_at = self._clock.now
        self._reader.spliced(size)
        self.waiting = size
        self._drain()

    def _drain(self) -> None:
        """Write what is in the pipe, and look at the source again when it is empty."""
        if self._is_over():
            return
        _, sink, pipe_out, _ = self._descriptors
        was_blocked = self._is_writing
        try:
            while self.waiting:
                self.waiting -= os.splice(pipe_out, sink, self.waiting, flags=os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            pass
        except OSError as error:
            self._fail(error)
            return
        self._watch()
        if self.waiting:
            self._reader.blocked(self.waiting)
        elif was_blocked:
            self._reader.drained()

    def _is_over(self) -> bool:
        """Whether one side was closed or aborted, of which it tells its protocol only later."""
        if self._is_open and (self._source.is_closing() or self._sink.is_closing()):
            self.close()
        return not self._is_open

    def _fail(self, error: OSError) -> None:
        if error.errno in _REFUSALS:
            self._splices.refused()
            self.give_back()
        else:
            self.close()
            self._reader.fail()

    def _watch(self) -> None:
        """Wait for the source while the pipe is empty, for the sink while it is not."""
        source, sink, _, _ = self._descriptors
        reads = self._is_open and not self.waiting and not self._is_held
        if reads != self._is_reading:
            self._is_reading = reads
            if reads:
                self._loop.add_reader(source, self._readable)
            else:
                self._loop.remove_reader(source)
        writes = self._is_open and self.waiting > 0
        if writes != self._is_writing:
            self._is_writing = writes
            if writes:
                self._loop.add_writer(sink, self._drain)
            else:
                self._loop.remove_writer(sink)

    def __repr__(self) -> str:
        state = "closed" if not self._is_open else "held" if self._is_held else "open"
        return f"<Splice: {state}, {self.waiting} bytes wait>"


def _open_descriptors(source: asyncio.Transport, sink: asyncio.Transport) -> tuple[int, int, int, int]:
    """Return a second descriptor of each socket, the pipe's end to read from and the one to write to.

    The loop lets nobody watch a descriptor that its transport owns, and closes it whenever it likes.
    """
    opened: list[int] = []
    try:
        opened += (os.dup(transport.get_extra_info("socket").fileno()) for transport in (source, sink))
        opened += os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # Refused to a user who has many pipes already. New ones hold a page or two then, and are worse than none.
        fcntl.fcntl(opened[2], fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    except OSError:
        for descriptor in opened:
            os.close(descriptor)
        raise
    source_end, sink_end, pipe_out, pipe_in = opened
    return source_end, sink_end, pipe_out, pipe_in
