"""The turns of plan changes at a serving process, of which a removal does not wait for its own.

Pure. The parent numbers the changes of all plans and gives them in that order, one taken before the next. A removal
comes twice: ahead of its turn, where it waits for nothing that compiles, and in its turn, where it stands between what
was before it and what came after.
"""


class PlanTurns:
    """Which changes a removal has made void.

    Always: a removal is kept from when it comes ahead until its turn, and until then nothing before it is taken.
    """

    def __init__(self) -> None:
        self._turn = 0
        self._ahead: dict[str, int] = {}

    def removed_ahead(self, sandbox_id: str, change: int) -> bool:
        """Take a removal ahead of its turn; False where its turn has been, and newer plans may be in force."""
        if change <= self._turn:
            return False
        self._ahead[sandbox_id] = change
        return True

    def take(self, sandbox_id: str, change: int) -> bool:
        """Take a change in its turn; False for one that a later removal has made void."""
        self._turn = change
        if self._ahead.get(sandbox_id) == change:
            del self._ahead[sandbox_id]
        return not self.is_void(sandbox_id, change)

    def is_void(self, sandbox_id: str, change: int) -> bool:
        """Whether a later removal has come while the change was worked on."""
        return change < self._ahead.get(sandbox_id, 0)

    def __repr__(self) -> str:
        return f"<PlanTurns {self._turn}, {len(self._ahead)} removed ahead>"
