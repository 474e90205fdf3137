"""Which streams are open, and what any of them can be told."""

import itertools
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import ClassVar

from gateway.core.route_table import RouteTable
from sallyport.claims import Claims
from sallyport.net.bulk_turns import BulkReader


class OpenStream:
    """A stream that can be told to end: its sandbox's authority, and what drain and revocation do to it."""

    __slots__ = ()
    claims: Claims | None
    # A tunnel is open as a stream is, and so is what the gateway opens in it; limits and figures are of the others.
    is_of_sandbox: ClassVar[bool] = True

    @property
    def held_bytes(self) -> int:
        """Bytes kept in this process that one side does not take; what a tunnel's streams receive is the tunnel's."""
        return 0

    def readers(self, everyone: bool) -> Iterable[BulkReader]:
        """Return what reads for it now, on either side: everyone, or those whose bytes have not all been taken yet."""
        return ()

    def carries(self, kind: str, identifier: str, organization_id: str | None) -> bool:
        """Whether an open exchange uses the credential of this "connection" or "binding".

        None is any organization's.
        """
        return False

    def goes_on_under(self, table: RouteTable | None) -> bool:
        """Whether what is open may go on under another plan of its sandbox, or (None) under none."""
        return True

    def drain(self) -> bool:
        """End after the exchange that is open; True when there is none and it could be closed now."""
        raise NotImplementedError

    def close(self) -> None:
        """End in good order, once drain() has said that it could be."""
        raise NotImplementedError

    def abort(self) -> None:
        """End now, whatever is open."""
        raise NotImplementedError

    def shed(self) -> int:
        """Give back what is kept, by an end; returns how many streams ended."""
        self.abort()
        return 1

    def revoke(self) -> None:
        """End now: its authority was taken away."""
        self.abort()

    def turn_away(self) -> None:
        """End: the plan that has come for its sandbox is another organization's."""
        self.revoke()


class StreamIndex:
    """Open streams by sandbox, so that limits, revocation and drain need not search.

    Anonymous are those that no token has been shown for, and those that are one too many of their sandbox, as a tunnel
    is that a newer one has replaced: they only wait for their end. They are counted apart and only so many are kept,
    because anybody can open them: their number says nothing of what sandboxes do, and must take no place of theirs.
    """

    def __init__(self, max_anonymous: int) -> None:
        # In the order in which they became its own.
        self._by_sandbox: dict[str, dict[OpenStream, None]] = {}
        # Who has been anonymous for longest comes first; a plain dict would look for it among those that are gone.
        self._anonymous: OrderedDict[OpenStream, None] = OrderedDict()
        self._max_anonymous = max_anonymous
        self._apart: Counter[str] = Counter()  # how many of a sandbox's are not its own, where any are
        self.open = 0
        self._open_apart = 0  # of those: tunnels and what is opened in them, whosever they are by now
        self.admitted = 0  # of those that are open: by a token
        self.dropped = 0  # to make room for others that are anonymous too

    def add(self, stream: OpenStream) -> None:
        """Note a stream; claim() follows at once."""
        self._anonymous[stream] = None
        self.open += 1
        self._open_apart += not stream.is_of_sandbox

    def add_anonymous(self, stream: OpenStream) -> None:
        """Note a stream that is nobody's yet. One too many ends the one that has been so for longest.

        So a flood of them ends its own, and who shows his token in time is not asked to wait.
        """
        self.add(stream)
        self._make_room()

    def claim(self, stream: OpenStream, before: Claims | None, claims: Claims) -> int:
        """Note whose the stream is from now on; returns how many streams of its own that sandbox has."""
        self._discard(stream, before)
        streams = self._by_sandbox.setdefault(claims.sandbox_id, {})
        streams[stream] = None
        self.admitted += 1
        self._apart[claims.sandbox_id] += not stream.is_of_sandbox
        return len(streams) - self._apart[claims.sandbox_id]

    def disown(self, stream: OpenStream, claims: Claims) -> None:
        """Note that a claimed stream is one too many: until it has ended it is counted with those that are nobody's."""
        self._discard(stream, claims)
        self._anonymous[stream] = None
        self._make_room()

    def remove(self, stream: OpenStream) -> None:
        """Forget a stream that has ended."""
        self._discard(stream, stream.claims)
        self.open -= 1
        self._open_apart -= not stream.is_of_sandbox

    @property
    def of_sandboxes(self) -> int:
        """How many streams are open that sandboxes have opened."""
        return self.open - self._open_apart

    def sandboxes(self) -> Collection[str]:
        """Return every sandbox with an open stream."""
        return self._by_sandbox.keys()

    def of_sandbox(self, sandbox_id: str) -> Sequence[OpenStream]:
        """Return the open streams of a sandbox, the oldest first."""
        return tuple(self._by_sandbox.get(sandbox_id, ()))

    def readers(self, sandbox_id: str, everyone: bool) -> Iterator[BulkReader]:
        """Yield what reads for a sandbox now: everyone, or those whose bytes have not all been taken yet."""
        for stream in self.of_sandbox(sandbox_id):
            yield from stream.readers(everyone)

    def all(self) -> Iterable[OpenStream]:
        """Return every open stream."""
        return list(itertools.chain(self._anonymous, *self._by_sandbox.values()))

    def _make_room(self) -> None:
        if len(self._anonymous) > self._max_anonymous:
            # Taken out here: its end is told later, and the next one to come must find another.
            longest, _ = self._anonymous.popitem(last=False)
            self.dropped += 1
            longest.abort()

    def _discard(self, stream: OpenStream, claims: Claims | None) -> None:
        if stream in self._anonymous:
            del self._anonymous[stream]
        if claims is None:
            return
        streams = self._by_sandbox.get(claims.sandbox_id)
        if streams is not None and stream in streams:
            del streams[stream]
            self.admitted -= 1
            self._apart[claims.sandbox_id] -= not stream.is_of_sandbox
            if not streams:
                del self._by_sandbox[claims.sandbox_id]
                del self._apart[claims.sandbox_id]
