"""The budget of a process: who is counted, who waits, who has to go."""

from sallyport.net.buffer_budget import BufferBudget


class Stream:
    """A holder that does what it is told and writes it down."""

    def __init__(self, budget: BufferBudget) -> None:
        self.budget = budget
        self.lines: list[str] = []

    def release_credit(self) -> None:
        self.lines.append("credit")

    def evict(self) -> None:
        self.lines.append("evicted")
        self.budget.forget(self)


def test_below_the_limit_nothing_happens() -> None:
    budget = BufferBudget(100)
    one = Stream(budget)
    budget.hold(one, 100)
    assert not budget.is_over
    budget.release(one, 40)
    assert repr(budget) == "<BufferBudget 60 of 100 bytes held by 1 streams>"
    budget.release(one, 60)
    assert repr(budget) == "<BufferBudget 0 of 100 bytes held by 0 streams>"
    assert one.lines == []


def test_credit_waits_until_the_budget_has_room() -> None:
    budget = BufferBudget(100)
    one, other = Stream(budget), Stream(budget)
    budget.hold(one, 60)
    budget.hold(other, 50)
    assert budget.is_over
    budget.withhold(one)
    budget.withhold(one)
    budget.release(other, 5)
    assert one.lines == []
    budget.release(other, 5)
    assert one.lines == ["credit"]
    budget.release(other, 5)
    assert one.lines == ["credit"]


def test_who_holds_most_goes_first_until_it_fits() -> None:
    budget = BufferBudget(100)
    streams = [Stream(budget) for _ in range(3)]
    for stream, size in zip(streams, (40, 30, 50), strict=True):
        budget.hold(stream, size)
    assert [stream.lines for stream in streams] == [[], [], []]  # 120 of 125
    budget.hold(streams[1], 6)
    assert [stream.lines for stream in streams] == [[], [], ["evicted"]]
    assert budget.held == 76
    budget.hold(streams[0], 1000)
    assert budget.held == 36


def test_who_is_forgotten_is_not_called() -> None:
    budget = BufferBudget(100)
    one, other = Stream(budget), Stream(budget)
    budget.hold(one, 110)
    budget.withhold(one)
    budget.withhold(other)
    budget.forget(one)
    budget.forget(one)
    assert (budget.held, one.lines, other.lines) == (0, [], ["credit"])


def test_windows_grow_into_half_of_the_budget_only() -> None:
    budget = BufferBudget(100)
    budget.hold(Stream(budget), 20)
    assert budget.has_room_for(30)
    assert not budget.has_room_for(31)
