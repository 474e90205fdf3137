"""What the parts themselves know: the ids of requests."""

from pathlib import Path

from tests.support.in_process import in_process_gateway


async def test_every_request_has_an_id_of_its_own_that_begins_as_its_process_does(tmp_path: Path) -> None:
    async with in_process_gateway(tmp_path) as one:
        parts = one.parts
        ids = [parts.next_request_id() for _ in range(20)]
        assert len(set(ids)) == len(ids)
        assert all(each.startswith(parts.request_prefix) for each in ids)
        numbers = [int(each.removeprefix(parts.request_prefix)) for each in ids]
        assert numbers == list(range(numbers[0], numbers[0] + 20))
