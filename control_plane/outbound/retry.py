"""When what was not heard is said again. Pure: chance is an argument."""

from typing import NamedTuple


class Pace(NamedTuple):
    """The pause after the first attempt, and the longest there is."""

    first_seconds: int
    longest_seconds: int


def pause_seconds(pace: Pace, attempts: int, chance: float, asked: int) -> int:
    """Return the pause after so many attempts: doubled each time, the later half of it by chance (0 to 1).

    `asked` is what the subscriber wants at least.
    """
    longest = min(pace.longest_seconds, pace.first_seconds << min(attempts - 1, 20))
    return max(min(asked, pace.longest_seconds), longest - int(chance * longest / 2))
