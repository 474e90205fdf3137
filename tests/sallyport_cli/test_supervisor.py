"""The supervisor with real processes: started in order, restarted, given up, stopped in reverse."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from sallyport_cli import supervisor as module
from sallyport_cli.supervisor import Part, PartFailed, Supervisor
from tests.support.until import until


class Lines:
    """What was shown, by part."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def show(self, name: str, line: str) -> None:
        self.lines.append((name, line))

    def of(self, name: str) -> list[str]:
        return [line for part, line in self.lines if part == name]


def part(name: str, script: str, ready: Path | None = None) -> Part:
    """A part that runs a Python script; ready once a file is there, or at once."""
    return Part(
        name=name,
        command=(sys.executable, "-S", "-c", script),
        environment={"PATH": os.environ["PATH"]},
        is_ready=lambda: ready is None or ready.exists(),
    )


WAIT = "import signal, time; print('up', flush=True); signal.pause()"


async def test_a_log_is_shown_under_its_part_s_name() -> None:
    lines = Lines()
    supervisor = Supervisor(lines.show)
    await supervisor.start(part("one", WAIT))
    await until(lambda: lines.of("one") == ["up"])
    await supervisor.stop()


async def test_the_next_is_started_when_the_one_before_is_ready(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    script = f"import pathlib, time, signal; time.sleep(0.2); pathlib.Path({str(ready)!r}).touch(); signal.pause()"
    supervisor = Supervisor(Lines().show)
    await supervisor.start(part("slow", script, ready))
    assert ready.exists()
    await supervisor.stop()


async def test_a_killed_part_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.01)
    lines = Lines()
    supervisor = Supervisor(lines.show)
    await supervisor.start(part("one", WAIT))
    await until(lambda: "up" in lines.of("one"))
    first = supervisor.processes()["one"]
    os.kill(first, signal.SIGKILL)
    await until(lambda: lines.of("one").count("up") == 2)
    assert supervisor.processes()["one"] != first
    assert "ended with status -9; started again in 0.01 s" in lines.of("one")
    await supervisor.stop()


async def test_one_that_dies_too_often_ends_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.0)
    supervisor = Supervisor(Lines().show)
    await supervisor.start(part("good", WAIT))
    await supervisor.start(part("bad", "raise SystemExit(7)"))
    with pytest.raises(PartFailed, match="bad ended 5 times within 60 s"):
        async with asyncio.timeout(20):
            await supervisor.ended
    good = supervisor.processes()["good"]
    await supervisor.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(good, 0)


async def test_one_that_ends_before_it_is_ready_is_told(tmp_path: Path) -> None:
    supervisor = Supervisor(Lines().show)
    with pytest.raises(PartFailed, match="broken ended with status 3 before it was ready"):
        await supervisor.start(part("broken", "raise SystemExit(3)", tmp_path / "never"))
    await supervisor.stop()


async def test_parts_are_stopped_in_reverse_and_the_deaf_are_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_SECONDS", 0.5)
    forever = "print('up', flush=True)\nwhile True: signal.pause()"
    leave = f"import signal, sys; signal.signal(15, lambda *_: (print('bye', flush=True), sys.exit(0))); {forever}"
    deaf = f"import signal; signal.signal(15, signal.SIG_IGN); {forever}"
    lines = Lines()

    def show(name: str, line: str) -> None:
        lines.show(name, line)
        if "is killed" in line:
            monkeypatch.setattr(module, "STOP_SECONDS", 20.0)  # those that end by themselves have the time to

    supervisor = Supervisor(show)
    await supervisor.start(part("first", leave))
    await supervisor.start(part("second", leave))
    await supervisor.start(part("deaf", deaf))
    await until(lambda: len(lines.lines) == 3)
    await supervisor.stop()
    assert lines.lines[3:] == [
        ("deaf", "did not end within 0.5 s and is killed"),
        ("second", "bye"),
        ("first", "bye"),
    ]


async def test_end_is_heard_and_a_long_line_does_not_stop_the_log() -> None:
    lines = Lines()
    supervisor = Supervisor(lines.show)
    await supervisor.start(
        part("loud", "import signal; print('x' * 200_000); print('after', flush=True); signal.pause()")
    )
    await until(lambda: "after" in lines.of("loud"))
    supervisor.end()
    supervisor.end()
    await supervisor.ended
    await supervisor.stop()


async def test_work_that_fails_ends_everything() -> None:
    async def broken() -> None:
        raise ValueError("no plan")

    supervisor = Supervisor(Lines().show)
    supervisor.spawn(broken(), name="start")
    with pytest.raises(ValueError, match="no plan"):
        await supervisor.ended
    await supervisor.stop()
