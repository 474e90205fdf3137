"""How long to wait before asking a control plane again that did not answer."""

from typing import Final

FIRST_SECONDS: Final = 1.0
MOST_SECONDS: Final = 30.0


def pause_seconds(attempt: int, random: float, *, most_seconds: float = MOST_SECONDS) -> float:
    """Return the pause before attempt 1, 2, ...; random is from [0, 1).

    Full jitter: a fleet that lost its control plane in one moment does not come back in one.
    """
    return random * min(most_seconds, FIRST_SECONDS * float(2 ** min(attempt - 1, 16)))
