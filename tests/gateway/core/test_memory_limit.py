from gateway.core.memory_limit import SMALLEST_SHED_BYTES, Held, MemoryLimit, choose_to_shed, limit_of_share

KIB = 1024


def test_t5_it_is_over_until_an_eighth_has_gone() -> None:
    limit = MemoryLimit(800)
    assert [limit.look(resident) for resident in (0, 700, 800)] == [0, 0, 0]
    assert not limit.is_over
    assert limit.look(801) == 101
    assert repr(limit) == "<MemoryLimit of 800 bytes, over>"
    assert limit.look(701) == 1
    assert limit.look(700) == 0
    assert repr(limit) == "<MemoryLimit of 800 bytes>"
    assert limit.look(750) == 0


def test_processes_share_four_fifths_of_a_cgroup() -> None:
    assert limit_of_share(1000, 1) == 800
    assert limit_of_share(1000, 4) == 200


def shed(held: dict[str, list[int]], surplus: int) -> list[str]:
    """Return what goes of so many KiB by owner, each named by its owner and its place."""
    all_held = [
        Held(owner, size * KIB, f"{owner}{place}") for owner, sizes in held.items() for place, size in enumerate(sizes)
    ]
    return [each.stream for each in choose_to_shed(all_held, surplus * KIB)]


def test_t5_many_small_ones_of_who_holds_most_go_before_a_larger_one_of_another() -> None:
    held = {"a": [100], "b": [20, 50, 40, 30], "c": []}
    assert shed(held, 0) == []
    assert shed(held, 1) == ["b1"]
    assert shed(held, 50) == ["b1"]
    # It has 90 left and is not the one with most any more; then they are even.
    assert shed(held, 51) == ["b1", "a0"]
    assert shed(held, 151) == ["b1", "a0", "b2"]


def test_t5_who_holds_little_is_let_be() -> None:
    least = SMALLEST_SHED_BYTES // KIB
    assert shed({"a": [least - 1], "b": [least // 2, least // 2 - 1]}, 1000) == []
    assert shed({"a": [least]}, 1000) == ["a0"]
    assert shed({"a": [1] * least}, 1000) == [f"a{least - 1}"]
