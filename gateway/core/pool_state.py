"""Which upstream link an exchange gets. Pure assignment; opening and closing sockets is the shell's work."""

from collections import deque
from collections.abc import Callable, Hashable
from enum import Enum


class Kept(Enum):
    """What becomes of a link that nobody waits for."""

    IDLE = "idle"
    FULL = "full"  # enough idle links of this key: close it


class _Place[L, W]:
    """The links of one key. Always: len(idle) <= open; waiting is empty unless open is at the limit."""

    __slots__ = ("idle", "open", "waiting")

    def __init__(self) -> None:
        self.idle: list[L] = []
        self.open = 0
        self.waiting: deque[W] = deque()


class _Owner[K]:
    """The keys of one owner, oldest first, and how many links they have together."""

    __slots__ = ("keys", "open")

    def __init__(self) -> None:
        self.keys: dict[K, None] = {}
        self.open = 0


class PoolState[K: Hashable, L, W]:
    """Links by key: at most links_per_key open (being dialled included), of which idle_per_key idle; and of all keys of
    one owner at most links_per_owner.

    The newest idle link is taken first: it is the least likely to have been closed by the other end. Owners are looked
    at only where a link is dialled or lost, not where one is used again.
    """

    def __init__(
        self, *, links_per_key: int, idle_per_key: int, links_per_owner: int, owner_of: Callable[[K], Hashable]
    ) -> None:
        self._links_per_key = links_per_key
        self._idle_per_key = idle_per_key
        self._links_per_owner = links_per_owner
        self._owner_of = owner_of
        self._places: dict[K, _Place[L, W]] = {}
        self._owners: dict[Hashable, _Owner[K]] = {}
        self.open = 0
        self.idle = 0

    def take(self, key: K) -> L | None:
        """Take an idle link of exactly this key, if there is one."""
        place = self._places.get(key)
        if place is None or not place.idle:
            return None
        self.idle -= 1
        return place.idle.pop()

    def reserve(self, key: K) -> bool:
        """Take the place of a link that is about to be dialled; False when its key or owner has all it may have."""
        place = self._places.get(key)
        if (place is not None and place.open >= self._links_per_key) or self.is_owner_full(key):
            return False
        owner_name = self._owner_of(key)
        owner = self._owners.get(owner_name)
        if owner is None:
            owner = self._owners[owner_name] = _Owner()
        if place is None:
            place = self._places[key] = _Place()
            owner.keys[key] = None
        owner.open += 1
        place.open += 1
        self.open += 1
        return True

    def is_owner_full(self, key: K) -> bool:
        """Whether the owner of this key has as many links as it may, with all its keys."""
        owner = self._owners.get(self._owner_of(key))
        return owner is not None and owner.open >= self._links_per_owner

    def spare(self, key: K) -> L | None:
        """Return an idle link of the same owner: losing it makes room for another where the owner is full."""
        owner = self._owners.get(self._owner_of(key))
        for other in () if owner is None else owner.keys:
            if self._places[other].idle:
                return self._places[other].idle[0]
        return None

    def wait(self, key: K, waiter: W) -> None:
        """Queue for a link or a place; only after reserve() said no because of the key."""
        self._places[key].waiting.append(waiter)

    def abandon(self, key: K, waiter: W) -> None:
        """Leave the queue; harmless for one who is no longer in it."""
        place = self._places.get(key)
        if place is not None and waiter in place.waiting:
            place.waiting.remove(waiter)

    def give_back(self, key: K, link: L) -> W | Kept:
        """Return a link that may carry another exchange; the answer is the waiter who gets it, if one waits."""
        place = self._places[key]
        if place.waiting:
            return place.waiting.popleft()
        if len(place.idle) >= self._idle_per_key:
            return Kept.FULL
        place.idle.append(link)
        self.idle += 1
        return Kept.IDLE

    def lose(self, key: K, link: L | None) -> W | None:
        """Note that a link is gone, or (None) that its dial failed.

        Returns a waiter who now holds the place that became free, and must dial.
        """
        place = self._places[key]
        if link is not None and link in place.idle:
            place.idle.remove(link)
            self.idle -= 1
        if place.waiting:
            return place.waiting.popleft()
        place.open -= 1
        self.open -= 1
        self._leave(key, is_last=place.open == 0)
        return None

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
