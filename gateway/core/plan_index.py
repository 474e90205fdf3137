"""Which plans are announced: for each sandbox a revision and a digest, without the plan itself.

Pure. Whoever fetches plans asks here what the right one is, before and after the fetch.
"""

from collections.abc import Iterable
from typing import NamedTuple


class Announced(NamedTuple):
    """The plan a sandbox should have."""

    revision: int
    digest: str


class PlanIndex:
    """What is announced now. Empty and `is_known` False until a snapshot has come."""

    def __init__(self) -> None:
        self._announced: dict[str, Announced] = {}
        self.is_known = False

    def replace(self, plans: Iterable[tuple[str, Announced]]) -> None:
        """Take a snapshot: what it does not name is not announced any more."""
        self._announced = dict(plans)
        self.is_known = True

    def announce(self, sandbox_id: str, announced: Announced) -> bool:
        """Take one announcement; False for one that is older than what is known."""
        known = self._announced.get(sandbox_id)
        if known is not None and announced.revision < known.revision:
            return False
        self._announced[sandbox_id] = announced
        return True

    def remove(self, sandbox_id: str) -> None:
        """Take back an announcement."""
        self._announced.pop(sandbox_id, None)

    def get(self, sandbox_id: str) -> Announced | None:
        """Return what is announced for a sandbox."""
        return self._announced.get(sandbox_id)

    def __len__(self) -> int:
        return len(self._announced)

    def __repr__(self) -> str:
        return f"<PlanIndex {len(self._announced)} plans{'' if self.is_known else ', no snapshot yet'}>"
