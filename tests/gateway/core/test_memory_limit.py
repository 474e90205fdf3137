from gateway.core.memory_limit import MemoryLimit, limit_of_share


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
