"""The turns of plan changes at a serving process, of which some come ahead of their own.

Pure. The parent numbers the changes of all plans and gives them in that order, one taken before the next. What may take
something out of service, a removal or a plan that replaces another, comes twice: ahead of its turn, where it does not
wait for all that compiles, and in its turn, where it stands between what was before it and what came after.
"""


class PlanTurns:
    """Which changes another one that came ahead has made void.

    Always: what came ahead is kept until its turn, and until then nothing of its sandbox before it is taken.
    """

    def __init__(self) -> None:
        self._turn = 0
        self._ahead: dict[str, int] = {}

    def come_ahead(self, sandbox_id: str, change: int) -> bool:
        """Take a change ahead of its turn; False where its turn has been or a newer one has come, which stands then."""
        if change <= self._turn or self.is_void(sandbox_id, change):
            return False
        self._ahead[sandbox_id] = change
        return True

    def take(self, sandbox_id: str, change: int) -> bool:
        """Take a change in its turn; False for one that came ahead, or that a later one has made void."""
        self._turn = change
        if self._ahead.get(sandbox_id) == change:
            del self._ahead[sandbox_id]
            return False
        return not self.is_void(sandbox_id, change)

    def is_void(self, sandbox_id: str, change: int) -> bool:
        """Whether a later one has come ahead while the change was worked on."""
        return change < self._ahead.get(sandbox_id, 0)

    def __repr__(self) -> str:
        return f"<PlanTurns {self._turn}, {len(self._ahead)} ahead>"
