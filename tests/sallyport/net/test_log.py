"""The log of a trusted part."""

import io
import json
import os
import sys
from collections.abc import Iterator

import pytest
import structlog

from sallyport.net import log as log_module
from sallyport.net.log import Log, configure_log


@pytest.fixture
def events() -> Iterator[structlog.typing.FilteringBoundLogger]:
    yield structlog.get_logger("tests")
    structlog.reset_defaults()


def test_the_log_is_json_lines_on_standard_error(
    events: structlog.typing.FilteringBoundLogger, capsys: pytest.CaptureFixture[str]
) -> None:
    output = configure_log(Log(level="info", format="json"))
    events.info("plan_applied", revision=7)
    events.debug("not_written")
    try:
        raise ValueError("broken")
    except ValueError:
        events.exception("task_failed")
    output.close()
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
    output = configure_log(Log(level=level, format="json"))
    for name in ("debug", "info", "warning", "error"):
        getattr(events, name)("event")
    output.close()
    assert [json.loads(line)["level"] for line in capsys.readouterr().err.splitlines()] == written


def test_the_log_for_people(events: structlog.typing.FilteringBoundLogger, capsys: pytest.CaptureFixture[str]) -> None:
    output = configure_log(Log(level="info", format="console"))
    events.info("plan_applied", revision=7)
    output.close()
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
        output = configure_log(Log(level="info", format="json"))
        for _ in range(1000):
            events.info("plan_applied")
    output.close()
    assert repr(output) == "<LogOutput 0 lines waiting, 0 lost>"
    os.close(descriptor)


def test_t5_a_log_that_nobody_reads_holds_up_nobody_and_says_what_was_lost(
    events: structlog.typing.FilteringBoundLogger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "MAX_WAITING_CHARS", 10_000)
    reading, writing = os.pipe()
    with monkeypatch.context() as piped:
        piped.setattr(sys, "stderr", io.TextIOWrapper(io.FileIO(writing, "w", closefd=False), write_through=True))
        output = configure_log(Log(level="info", format="json"))
    sent = 0
    while output._lost == 0:  # the pipe is full, and then what waits is too
        events.info("plan_applied", number=sent, text="x" * 1000)
        sent += 1
    for _ in range(9):
        events.info("plan_applied", number=sent)
    with io.FileIO(reading) as pipe:
        lines = pipe_lines(pipe)
        found = [json.loads(next(lines)) for _ in range(sent)]
        assert [each["number"] for each in found[:-1]] == list(range(sent - 1))
        assert (found[-1]["event"], found[-1]["lines"], found[-1]["level"]) == ("log_lines_lost", 10, "error")
        events.info("plan_applied")
        assert json.loads(next(lines))["event"] == "plan_applied"
        output.close()
    os.close(writing)


def pipe_lines(pipe: io.FileIO) -> Iterator[bytes]:
    rest = b""
    while data := pipe.read(65536):
        *lines, rest = (rest + data).split(b"\n")
        yield from lines
