"""Whether a placeholder of a plan stands in a head: asked of every request, so however many there are (C5)."""

import re
from collections.abc import Collection, Mapping
from typing import Final

# Up to so many an expression tries one after the other at every byte, which is quicker than to look any up.
FEW: Final = 8
# What is looked up: the shorter, the fewer looks; the longer, the fewer that find something by chance.
BLOCK_BYTES: Final = 4
# Of how many bytes at the beginning of a value blocks are kept; of more there would be fewer looks for more memory.
FIRST_BYTES: Final = 16


class Placeholders:
    """The placeholder values of a plan, each of at least BLOCK_BYTES; of many, a head is looked at in blocks.

    A value that stands in a head has a block at every place of `stride` places in a row, and one of these is looked at.
    Only where such a block stands is more looked up: by the first bytes that all values have, and by the lengths of
    those that begin so. How many values there are costs nothing.
    """

    __slots__ = ("_blocks", "_expression", "_least", "_lengths", "_stride", "_values")

    def __init__(self, values: Collection[bytes]) -> None:
        self._values = frozenset(values)
        few = 0 < len(self._values) <= FEW
        self._expression = re.compile(b"|".join(map(re.escape, sorted(self._values)))) if few else None
        self._least = min(FIRST_BYTES, *map(len, self._values)) if self._values else BLOCK_BYTES
        self._stride = self._least - BLOCK_BYTES + 1
        # With the places where values have it.
        self._blocks: Mapping[bytes, tuple[int, ...]] = _blocks(self._values, self._stride)
        self._lengths: dict[bytes, set[int]] = {}
        for value in self._values:
            self._lengths.setdefault(value[: self._least], set()).add(len(value))

    def __bool__(self) -> bool:
        return bool(self._values)

    def stand_in(self, head: bytes) -> bool:
        """Say whether any of them stands in these bytes."""
        if self._expression is not None:
            return self._expression.search(head) is not None
        for at in range(0, len(head) - BLOCK_BYTES + 1, self._stride):
            places = self._blocks.get(head[at : at + BLOCK_BYTES])
            if places is not None and any(self._begins(head, at - place) for place in places if place <= at):
                return True
        return False

    def _begins(self, head: bytes, at: int) -> bool:
        lengths = self._lengths.get(head[at : at + self._least], ())
        return any(head[at : at + length] in self._values for length in lengths)

    def __repr__(self) -> str:
        return f"<Placeholders: {len(self._values)}>"


def _blocks(values: Collection[bytes], stride: int) -> dict[bytes, tuple[int, ...]]:
    found: dict[bytes, tuple[int, ...]] = {}
    alone = [(at,) for at in range(stride)]  # made once: nearly all blocks have one place
    for at in range(stride):
        for block in {value[at : at + BLOCK_BYTES] for value in values}:
            found[block] = (*found[block], at) if block in found else alone[at]
    return found
