"""A loop's turns, as a test has them."""

from collections.abc import Callable

from sallyport.net.bulk_turns import TURN_READS, BulkTurns


class SpentTurns:
    """Spent when a test says so (`spend`), and gone on with when it says so (`pass_on`)."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []
        self.turns = BulkTurns(self.calls.append)

    def spend(self) -> None:
        self.turns.reads = 2.0 * TURN_READS

    def pass_on(self) -> None:
        calls = self.calls[:]
        self.calls.clear()
        for call in calls:
            call()
