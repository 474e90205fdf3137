"""What the gateway asks of its process; in a process of its own, because none of it can be taken back (C14, T5)."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog

from gateway.config import Log
from gateway.process import configure_log

HARDENED = """
import ctypes, gc, json, resource
from gateway.process import harden_process, raise_descriptor_limit, settle_memory

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 64), hard))
harden_process()
raise_descriptor_limit()
settle_memory()
print(json.dumps({
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    "dumpable": ctypes.CDLL(None).prctl(3, 0, 0, 0, 0),
    "descriptors": resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard,
    "frozen": gc.get_freeze_count() > 0,
}))
"""


def test_c14_no_core_file_and_no_look_into_memory() -> None:
    done = subprocess.run([sys.executable, "-c", HARDENED], capture_output=True, check=True, timeout=30)
    told = json.loads(done.stdout)
    assert told["core"] == [0, 0]
    assert told["descriptors"]
    assert told["frozen"]
    if sys.platform == "linux":
        assert told["dumpable"] == 0


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
