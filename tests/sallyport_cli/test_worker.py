"""`sallyport worker`: what it says when it cannot start; the worker itself is tests/worker."""

import os
from pathlib import Path

import pytest

from tests.support.background import in_background
from tests.support.command import call, spawn
from tests.support.gateway_process import ROOT
from tests.support.raw_end import raw_origin

ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}


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
        outcome = spawn("worker", env=ENVIRONMENT | {"SALLYPORT_WORKER_LISTEN": listen}, cwd=tmp_path)
    assert outcome.status == 3
    assert f"{listen} is taken by another process" in outcome.err


@pytest.mark.parametrize(
    ("url", "status", "told"),
    [
        ("mysql://root:s3cret@host/db", 2, "mysql is not supported"),
        ("sqlite:///nowhere/worker.db", 3, "unable to open database file"),
    ],
)
def test_a_database_that_cannot_be_used_is_told(tmp_path: Path, url: str, status: int, told: str) -> None:
    settings = {"SALLYPORT_WORKER_LISTEN": "127.0.0.1:0", "SALLYPORT_WORKER_DATABASE_URL": url}
    outcome = spawn("worker", env=ENVIRONMENT | settings, cwd=tmp_path)
    assert outcome.status == status
    assert told in outcome.err
    assert "SALLYPORT_WORKER_DATABASE_URL" in outcome.err
    assert "s3cret" not in outcome.err
