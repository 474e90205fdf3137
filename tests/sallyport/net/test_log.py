"""The log of a trusted part."""

import io
import json
import os
import sys
from collections.abc import Iterator

import pytest
import structlog

from sallyport.net.log import Log, configure_log


@pytest.fixture
def events() -> Iterator[structlog.typing.FilteringBoundLogger]:
    yield structlog.get_logger("tests")
    structlog.reset_defaults()


def test_the_log_is_json_lines_on_standard_error(
    events: structlog.typing.FilteringBoundLogger, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_log(Log(level="info", format="json"))
    events.info("plan_applied", revision=7)
    events.debug("not_written")
    try:
        raise ValueError("broken")
    except ValueError:
        events.exception("task_failed")
    out, err = capsys.readouterr()
    applied, failed = map(json.loads, err.splitlines())
    assert out == ""
    assert (applied["event"], applied["level"], applied["revision"]) == ("plan_applied", "info", 7)
    assert applied["timestamp"].endswith("Z")
    assert "ValueError: broken" in failed["exception"]


@pytest.mark.parametrize(
    ("level", "written"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_the_least_severe_event_written(
    events: structlog.typing.FilteringBoundLogger, capsys: pytest.CaptureFixture[str], level: str, written: list[str]
) -> None:
    configure_log(Log(level=level, format="json"))
    for name in ("debug", "info", "warning", "error"):
        getattr(events, name)("event")
    assert [json.loads(line)["level"] for line in capsys.readouterr().err.splitlines()] == written


def test_the_log_for_people(events: structlog.typing.FilteringBoundLogger, capsys: pytest.CaptureFixture[str]) -> None:
    configure_log(Log(level="info", format="console"))
    events.info("plan_applied", revision=7)
    line = capsys.readouterr().err
    assert "plan_applied" in line
    assert "revision=7" in line
    assert "\x1b" not in line  # standard error is no terminal here


def test_t5_a_log_on_a_full_disk_fails_nobody(
    events: structlog.typing.FilteringBoundLogger, monkeypatch: pytest.MonkeyPatch
) -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    # As standard error is opened: what cannot be written fails at once and stays in no buffer of ours.
    with monkeypatch.context() as full:
        full.setattr(sys, "stderr", io.TextIOWrapper(io.FileIO(descriptor, "w", closefd=False), write_through=True))
        configure_log(Log(level="info", format="json"))
        for _ in range(1000):
            events.info("plan_applied")
    os.close(descriptor)
