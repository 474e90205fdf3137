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


def test_a_share_that_is_over_holds_up_and_evicts_its_own_alone() -> None:
    whole = BufferBudget(1000)
    greedy, modest = BufferBudget(100, whole), BufferBudget(100, whole)
    mine, larger, other = Stream(greedy), Stream(greedy), Stream(modest)
    modest.hold(other, 99)
    greedy.hold(mine, 50)
    greedy.hold(larger, 60)
    assert (greedy.is_over, modest.is_over, whole.held) == (True, False, 209)
    assert modest.has_room_for(0) is False
    greedy.withhold(mine)
    greedy.hold(mine, 1)
    greedy.hold(larger, 20)
    assert [mine.lines, larger.lines, other.lines] == [["credit"], ["evicted"], []]
    assert (greedy.held, whole.held) == (51, 150)
    for share, stream in ((greedy, mine), (modest, other)):
        share.forget(stream)
        share.close()
    assert repr(whole) == "<BufferBudget 0 of 1000 bytes held by 0 streams>"


def test_the_whole_evicts_from_the_share_that_holds_most() -> None:
    whole = BufferBudget(100)
    shares = [BufferBudget(1000, whole) for _ in range(3)]
    assert [share.limit for share in shares] == [100] * 3
    small, large, larger = (Stream(share) for share in (shares[0], shares[1], shares[1]))
    shares[0].hold(small, 45)
    shares[1].hold(large, 40)
    shares[1].hold(larger, 41)
    assert [small.lines, large.lines, larger.lines] == [[], [], ["evicted"]]
    assert (whole.held, shares[1].held) == (85, 40)


def test_credit_waits_for_both_limits() -> None:
    whole = BufferBudget(100)
    mine, other = BufferBudget(50, whole), BufferBudget(100, whole)
    one, waiting, far = Stream(mine), Stream(mine), Stream(other)
    mine.hold(one, 60)
    other.hold(far, 55)
    mine.withhold(waiting)
    # The own share has room again, the whole has not.
    mine.release(one, 11)
    assert (mine.is_over, waiting.lines) == (True, [])
    other.release(far, 5)
    assert (mine.is_over, waiting.lines) == (False, ["credit"])
    # The other way about.
    mine.hold(one, 10)
    mine.withhold(waiting)
    other.release(far, 20)
    assert (mine.is_over, waiting.lines) == (True, ["credit"])
    mine.release(one, 10)
    assert waiting.lines == ["credit", "credit"]


def test_a_share_that_waits_for_the_whole_and_ends_is_forgotten() -> None:
    whole = BufferBudget(100)
    mine, other = BufferBudget(100, whole), BufferBudget(100, whole)
    waiting, far = Stream(mine), Stream(other)
    other.hold(far, 110)
    mine.withhold(waiting)
    mine.forget(waiting)
    mine.close()
    other.release(far, 60)
    assert waiting.lines == []
