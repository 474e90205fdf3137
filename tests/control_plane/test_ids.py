from control_plane.ids import new_id


def test_ids_sort_by_time_and_differ_within_a_millisecond() -> None:
    ids = [new_id("sbx", 1_800_000_000 + step * 0.001) for step in range(1_000)]
    assert ids == sorted(ids)
    assert len({new_id("sbx", 1.0) for _ in range(1_000)}) == 1_000
    assert ids[0].startswith("sbx_")
    assert len(ids[0]) == 4 + 12 + 20
