"""Which upstream link an exchange gets. Pure assignment; opening and closing sockets is the shell's work."""

from collections import Counter
from collections.abc import Callable, Hashable
from enum import Enum
from typing import Protocol


class Kept(Enum):
    """What becomes of a link that nobody waits for."""

    IDLE = "idle"
    FULL = "full"  # enough idle links of this key: close it


class Room(Enum):
    """Whether there is room for a link that is about to be dialled."""

    TAKEN = "taken"  # there was, and it is the link's
    AFTER_SPARE = "after spare"  # once an idle link has made room, which spare() names
    LATER = "later"  # wait for a link of this key or for the place of one
    NONE = "none"  # the owner has all it may, or the holder its share of that


class Held(Protocol):
    """A link, with who holds it until it is idle or gone. Set here alone."""

    holder: str


class _Place[L: Held, W: Hashable]:
    """The links of one key, those included that are dialled or closing.

    Always: nobody waits who may hold another link, and no queue in waiting is empty.
    """

    __slots__ = ("idle", "links", "waiting")

    def __init__(self) -> None:
        self.links: set[L] = set()
        self.idle: list[L] = []
        self.waiting: dict[str, dict[W, L]] = {}  # by holder, whose turn it is first; with the link that it would dial

    def held_by(self, holder: str) -> int:
        """Count the links of one holder: in use, being dialled, closing."""
        return sum(link.holder == holder for link in self.links) - sum(link.holder == holder for link in self.idle)


class _Owner[K]:
    """The keys of one owner, oldest first, and how many links they have together."""

    __slots__ = ("keys", "open")

    def __init__(self) -> None:
        self.keys: dict[K, None] = {}
        self.open = 0


class PoolState[K: Hashable, L: Held, W: Hashable]:
    """Links by key: at most links_per_key open (being dialled included), of which idle_per_key idle; and of all keys of
    one owner at most links_per_owner.

    Where holders share a key, none holds more of its links than are left, and so of an owner's: one alone has half, of
    n each has the (n+1)th part. So there is a link for who comes next, whatever those before do with theirs. While more
    than half are left, nobody need be counted.

    The newest idle link is taken first: it is the least likely to have been closed by the other end. Owners are looked
    at only where a link is dialled or lost, not where one is used again.
    """

    def __init__(
        self,
        *,
        links_per_key: int,
        idle_per_key: int,
        links_per_owner: int,
        owner_of: Callable[[K], Hashable],
        is_shared: Callable[[K], bool],
    ) -> None:
        """is_shared says whether links of a key may be held by more than one holder."""
        self._links_per_key = links_per_key
        self._half_of_key = (links_per_key + 1) // 2
        self._idle_per_key = idle_per_key
        self._links_per_owner = links_per_owner
        self._owner_of = owner_of
        self._is_shared = is_shared
        self._places: dict[K, _Place[L, W]] = {}
        self._owners: dict[Hashable, _Owner[K]] = {}
        self.open = 0
        self.idle = 0

    def take(self, key: K, holder: str) -> L | None:
        """Take an idle link of exactly this key, if there is one that this holder may have."""
        place = self._places.get(key)
        if place is None or not place.idle:
            return None
        if len(place.links) - len(place.idle) >= self._half_of_key and not self._may_hold(key, place, holder):
            return None
        self.idle -= 1
        link = place.idle.pop()
        link.holder = holder
        return link

    def reserve(self, key: K, holder: str, link: L) -> Room:
        """Take the place of a link that is about to be dialled, if there is room for it."""
        owner_name = self._owner_of(key)
        owner = self._owners.get(owner_name)
        place = self._places.get(key)
        if owner is not None and not self._may_hold_of_owner(key, owner, holder):
            return Room.NONE
        if place is not None and not self._may_hold(key, place, holder):
            return Room.LATER
        if place is not None and len(place.links) >= self._links_per_key:
            return Room.AFTER_SPARE
        if owner is not None and owner.open >= self._links_per_owner:
            return Room.NONE if self.spare(key) is None else Room.AFTER_SPARE
        if owner is None:
            owner = self._owners[owner_name] = _Owner()
        if place is None:
            place = self._places[key] = _Place()
            owner.keys[key] = None
        owner.open += 1
        self.open += 1
        place.links.add(link)
        link.holder = holder
        return Room.TAKEN

    def _may_hold(self, key: K, place: _Place[L, W], holder: str) -> bool:
        """Whether this holder may have one link more, if one is idle or can be dialled."""
        left = self._links_per_key - len(place.links) + len(place.idle)
        if 2 * left > self._links_per_key or not self._is_shared(key):
            return left > 0
        return place.held_by(holder) < left

    def _may_hold_of_owner(self, key: K, owner: _Owner[K], holder: str) -> bool:
        if 2 * owner.open < self._links_per_owner or not self._is_shared(key):
            return True
        places = [self._places[each] for each in owner.keys]
        left = self._links_per_owner - owner.open + sum(len(place.idle) for place in places)
        return sum(place.held_by(holder) for place in places) < left

    def spare(self, key: K) -> L | None:
        """Return an idle link that makes room for another of this key: of the key itself, or of the same owner."""
        owner = self._owners.get(self._owner_of(key))
        for other in () if owner is None else (key, *owner.keys):
            place = self._places.get(other)
            if place is not None and place.idle:
                return place.idle[0]
        return None

    def wait(self, key: K, holder: str, waiter: W, link: L) -> None:
        """Queue for a link, or for the place to dial this one; only after reserve() said LATER."""
        self._places[key].waiting.setdefault(holder, {})[waiter] = link

    def abandon(self, key: K, holder: str, waiter: W) -> None:
        """Leave the queue; harmless for one who is no longer in it."""
        place = self._places.get(key)
        queue = None if place is None else place.waiting.get(holder)
        if place is not None and queue is not None:
            queue.pop(waiter, None)
            if not queue:
                del place.waiting[holder]

    def give_back(self, key: K, link: L) -> W | Kept:
        """Return a link that may carry another exchange; the answer is the waiter who gets it, if one waits."""
        place = self._places[key]
        if place.waiting:
            place.links.remove(link)
            served = self._next(key, place)
            place.links.add(link)
            if served is not None:
                link.holder, waiter, _ = served
                return waiter
        if len(place.idle) >= self._idle_per_key:
            return Kept.FULL
        place.idle.append(link)
        self.idle += 1
        return Kept.IDLE

    def lose(self, key: K, link: L) -> tuple[W, L] | None:
        """Note that a link is gone, or that its dial failed.

        Returns a waiter who now holds the place that became free, and the link that it must dial.
        """
        place = self._places[key]
        if link in place.idle:
            place.idle.remove(link)
            self.idle -= 1
        place.links.remove(link)
        if place.waiting:
            served = self._next(key, place)
            if served is not None:
                holder, waiter, dialled = served
                place.links.add(dialled)
                dialled.holder = holder
                return waiter, dialled
        self.open -= 1
        self._leave(key, is_last=not place.links)
        return None

    def _next(self, key: K, place: _Place[L, W]) -> tuple[str, W, L] | None:
        """Take the waiter who gets what has just become free, a link or a place not counted here, if any may have it.

        Of the holders that wait, who has fewest; then whose turn it is. So there is never a second to be served: who
        gave the link up, if it waits, has the fewest of those who may have it, and has again what it had.
        """
        held = Counter(link.holder for link in place.links)
        held.subtract(link.holder for link in place.idle)
        holder = min(place.waiting, key=held.__getitem__)
        if self._is_shared(key) and held[holder] >= self._links_per_key - len(place.links) + len(place.idle):
            return None
        queue = place.waiting.pop(holder)
        waiter = next(iter(queue))
        dialled = queue.pop(waiter)
        if queue:
            place.waiting[holder] = queue  # behind everybody else
        return holder, waiter, dialled

    def _leave(self, key: K, *, is_last: bool) -> None:
        owner_name = self._owner_of(key)
        owner = self._owners[owner_name]
        owner.open -= 1
        if is_last:
            del self._places[key]
            del owner.keys[key]
        if owner.open == 0:
            del self._owners[owner_name]

    def idle_links(self, chosen: Callable[[K], bool]) -> list[L]:
        """Return the idle links whose key is chosen; they stay in the pool until they are lost."""
        return [link for key, place in self._places.items() if chosen(key) for link in place.idle]

    def __repr__(self) -> str:
        return f"<PoolState {self.open} open, {self.idle} idle, {len(self._places)} keys>"
