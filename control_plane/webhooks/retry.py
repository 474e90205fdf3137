"""When a delivery that failed is tried again. Pure: chance is an argument."""

from typing import Final

FIRST_SECONDS: Final = 5
# Some 30 attempts in a day; whoever is back is told within the hour.
LONGEST_SECONDS: Final = 3_600


def pause_seconds(attempts: int, chance: float, asked: int) -> int:
    """Return the pause after so many attempts: doubled each time, the later half of it by chance (0 to 1).

    `asked` is what the subscriber wants at least.
    """
    longest = min(LONGEST_SECONDS, FIRST_SECONDS << min(attempts - 1, 20))
    return max(min(asked, LONGEST_SECONDS), longest - int(chance * longest / 2))
