"""`sallyport worker`: what it says when it cannot start; the worker itself is tests/worker."""

import os
from pathlib import Path

import pytest

from tests.support.background import in_background
from tests.support.command import call, spawn
from tests.support.raw_end import raw_origin


def test_faulty_settings_are_all_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALLYPORT_WORKER_LISTEN", "0.0.0.0:1")
    monkeypatch.setenv("SALLYPORT_WORKER_TIMEOUTS_SETUP", "soon")
    outcome = call(capsys, "worker")
    assert outcome.status == 2
    assert "SALLYPORT_WORKER_LISTEN" in outcome.err
    assert "SALLYPORT_WORKER_TIMEOUTS_SETUP" in outcome.err


def test_a_taken_port_is_told(tmp_path: Path) -> None:
    with in_background(raw_origin()) as taken:
        listen = f"127.0.0.1:{taken.port}"
        environment = {"PATH": os.environ["PATH"], "SALLYPORT_WORKER_LISTEN": listen}
        outcome = spawn("worker", env=environment, cwd=tmp_path)
    assert outcome.status == 3
    assert f"{listen} is taken by another process" in outcome.err
