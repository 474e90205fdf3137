"""The daemon's log: JSON lines in the gateway's format."""

import io
import json

import pytest

from sandboxd.log import LEVELS, Log


@pytest.mark.parametrize("level", LEVELS)
def test_events_from_a_level_on_are_written(level: str) -> None:
    stream = io.StringIO()
    log = Log(level, stream)
    for name in LEVELS:
        getattr(log, name)("event", path="/a", number=1)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["level"] for line in lines] == list(LEVELS[LEVELS.index(level) :])
    assert all((line["event"], line["path"], line["number"]) == ("event", "/a", 1) for line in lines)
    assert all(line["timestamp"].endswith("Z") for line in lines)


def test_it_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    Log().info("ready", proxy="127.0.0.1:3129")
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err)["proxy"] == "127.0.0.1:3129"


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_reader_that_is_gone_stops_nothing() -> None:
    Log("info", Broken()).error("event")
