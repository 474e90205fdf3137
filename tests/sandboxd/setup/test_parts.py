"""The surroundings of a set-up."""

from pathlib import Path

from sandboxd.setup.parts import RestartLimits
from tests.support.setup_documents import setup_parts


async def test_everything_lies_in_one_directory(tmp_path: Path) -> None:
    async with setup_parts(tmp_path) as parts:
        assert parts.logs == tmp_path / "logs"
        assert parts.shell_file == tmp_path / "environment.sh"


def test_a_process_that_cannot_start_is_given_up_in_about_a_minute() -> None:
    limits = RestartLimits()
    delays = [
        min(limits.first_delay_seconds * 2**failure, limits.most_delay_seconds)
        for failure in range(limits.most_failures - 1)
    ]
    assert 45 < sum(delays) < 90
