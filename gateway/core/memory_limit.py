"""When a process holds too much memory, when no longer, and what goes. Pure; gateway/memory.py looks and acts."""

import heapq
from collections.abc import Hashable, Iterable
from typing import Final, NamedTuple

# Shedding ends an eighth below where it begins, so that one large answer does not turn it on and off.
_RECOVERED_EIGHTHS: Final = 7
# An owner that holds less in all is let be: resetting what it has would cost it more than it gives us.
SMALLEST_SHED_BYTES: Final = 64 * 1024


class MemoryLimit:
    """Always: is_over from the first look above the limit to the first one at seven eighths of it or below."""

    __slots__ = ("_low_bytes", "is_over", "limit_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._low_bytes = limit_bytes * _RECOVERED_EIGHTHS // 8
        self.is_over = False

    def look(self, resident_bytes: int) -> int:
        """Note what the process holds; return how many bytes have to go, 0 where none have."""
        self.is_over = resident_bytes > (self._low_bytes if self.is_over else self.limit_bytes)
        return resident_bytes - self._low_bytes if self.is_over else 0

    def __repr__(self) -> str:
        return f"<MemoryLimit of {self.limit_bytes} bytes{', over' if self.is_over else ''}>"


class Held[O: Hashable, S](NamedTuple):
    """What is kept for one stream, and whose it is."""

    owner: O
    size: int
    stream: S


def choose_to_shed[O: Hashable, S](held: Iterable[Held[O, S]], surplus: int) -> list[Held[O, S]]:
    """Choose what goes until so many bytes have, or nobody holds much: always the largest of who holds most in all.

    So a thousand streams of one owner go before one of another that holds a little more than any of them.
    """
    owned: dict[O, list[Held[O, S]]] = {}
    for each in held:
        owned.setdefault(each.owner, []).append(each)
    for streams in owned.values():
        streams.sort(key=lambda each: each.size)
    # The number stands between equal sums, so that owners are never compared.
    ranks = [
        (-sum(each.size for each in streams), number, owner) for number, (owner, streams) in enumerate(owned.items())
    ]
    heapq.heapify(ranks)
    chosen: list[Held[O, S]] = []
    while surplus > 0 and ranks and -ranks[0][0] >= SMALLEST_SHED_BYTES:
        total, number, owner = ranks[0]
        largest = owned[owner].pop()
        chosen.append(largest)
        surplus -= largest.size
        heapq.heapreplace(ranks, (total + largest.size, number, owner))
    return chosen


def limit_of_share(cgroup_bytes: int, processes: int) -> int:
    """Return what each of so many processes may hold of a cgroup's limit: four fifths are theirs together.

    The rest is for what the kernel counts beside them: socket buffers above all.
    """
    return cgroup_bytes * 4 // 5 // processes
