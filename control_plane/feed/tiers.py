"""The tiers of keys and of what they are served."""

from enum import StrEnum
from typing import Final


class Tier(StrEnum):
    """Who is served: everybody, or those who run things."""

    STANDARD = "standard"
    ADMIN = "admin"

    def sees(self, other: "Tier") -> bool:
        """Say whether a key of this tier is served what is of the other."""
        return self is Tier.ADMIN or other is Tier.STANDARD


TIERS: Final = tuple(Tier)
