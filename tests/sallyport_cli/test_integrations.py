"""`sallyport integrations` against a server that answers as a worker does; a real one: tests/worker/test_app.py."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sallyport_cli.up_directory import UpDirectory
from tests.support.command import Outcome, call
from tests.support.scripted_http import ScriptedHttp, scripted_http


@pytest.fixture
def worker() -> Iterator[ScriptedHttp]:
    with scripted_http() as worker:
        yield worker


@pytest.fixture
def data_dir(tmp_path: Path, worker: ScriptedHttp) -> Path:
    UpDirectory(tmp_path).addresses.write_text(json.dumps({"worker": worker.url}))
    return tmp_path


def ask(capsys: pytest.CaptureFixture[str], data_dir: Path, *arguments: object) -> Outcome:
    return call(capsys, "integrations", *arguments, "--data-dir", data_dir)


def test_the_list(data_dir: Path, worker: ScriptedHttp, capsys: pytest.CaptureFixture[str]) -> None:
    document = {"integrations": [{"id": "time", "status": "running", "tools_count": 2}]}
    worker.answer("/integrations", document)
    assert all(word in ask(capsys, data_dir, "list").out for word in ("time", "running", "2"))
    assert ask(capsys, data_dir, "list", "--json").json() == document


def test_an_installation_says_where_secrets_are_and_never_what(
    data_dir: Path, worker: ScriptedHttp, capsys: pytest.CaptureFixture[str]
) -> None:
    worker.answer("/integrations/install", {"id": "pg", "installed": True})
    options = ("--id", "pg", "--tier", "standard", "--argument", "a", "--variable", "MODE=x=y")
    secrets = ("--secret", "URL=env:PG_URL", "--secret", "KEY=file:/run/key", "--secret", "C=credential:c")
    outcome = ask(capsys, data_dir, "install", "postgresql-connector", *options, *secrets)
    assert (outcome.status, outcome.out) == (0, "pg is installed\n")
    assert json.loads(worker.asked[-1].body) == {
        "source": "postgresql-connector",
        "id": "pg",
        "tier": "standard",
        "arguments": ["a"],
        "environment": {"MODE": "x=y"},
        "secrets": {"URL": {"env": "PG_URL"}, "KEY": {"file": "/run/key"}, "C": {"credential": "c"}},
    }
    plain = ask(capsys, data_dir, "install", "x", "--secret", "TOKEN=ghp_plain")
    assert plain.status == 2
    assert "ghp_plain" not in plain.err


def test_a_source_may_be_a_file(data_dir: Path, worker: ScriptedHttp, capsys: pytest.CaptureFixture[str]) -> None:
    worker.answer("/integrations/install", {"id": "x", "installed": True})
    manifest = {"id": "x", "transport": {"type": "stdio", "command": "c"}}
    path = data_dir / "manifest.json"
    path.write_text(json.dumps(manifest))
    assert ask(capsys, data_dir, "install", path).status == 0
    assert json.loads(worker.asked[-1].body) == {"source": manifest}
    path.write_text("{")
    assert ask(capsys, data_dir, "install", path).status == 2


def test_what_is_done_to_one(data_dir: Path, worker: ScriptedHttp, capsys: pytest.CaptureFixture[str]) -> None:
    worker.answer("/integrations/time/start", {"id": "time", "status": "running", "pid": 7})
    worker.answer("/integrations/time/stop", {"id": "time", "status": "stopped"})
    worker.answer("/integrations/time", {"id": "time", "removed": True})
    worker.answer("/integrations/time/status", {"id": "time", "status": "running", "last_exit": None})
    worker.answer("/integrations/time/tools", {"tools": [{"name": "now", "description": "The time\nof day"}]})
    worker.answer("/integrations/time/logs?tail=5", {"id": "time", "lines": ["one", "two"]})
    assert ask(capsys, data_dir, "start", "time").out == "time is running\n"
    assert ask(capsys, data_dir, "stop", "time").out == "time is stopped\n"
    assert ask(capsys, data_dir, "remove", "time").out == "time is removed\n"
    assert "status            running" in ask(capsys, data_dir, "status", "time").out
    tools = ask(capsys, data_dir, "tools", "time").out
    assert ("The time" in tools, "of day" in tools) == (True, False)
    assert ask(capsys, data_dir, "logs", "time", "--tail", 5).out == "one\ntwo\n"
    assert [asked.method for asked in worker.asked] == ["POST", "POST", "DELETE", "GET", "GET", "GET"]
    for command in ("status", "tools"):
        assert ask(capsys, data_dir, command, "time", "--json").json()
    assert ask(capsys, data_dir, "logs", "time", "--tail", 5, "--json").json()["lines"] == ["one", "two"]


@pytest.mark.parametrize(("answer", "status"), [(404, 2), (400, 2), (409, 1), (502, 3)])
def test_refusals_are_told(
    data_dir: Path, worker: ScriptedHttp, capsys: pytest.CaptureFixture[str], answer: int, status: int
) -> None:
    document = {"error": {"category": "X", "message": "because of this", "details": None}}
    worker.answers["/integrations/time/start"] = answer, json.dumps(document).encode()
    outcome = ask(capsys, data_dir, "start", "time")
    assert outcome.status == status
    assert "because of this" in outcome.err


def test_no_worker(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "sallyport up" in ask(capsys, tmp_path, "list").err
    outcome = call(capsys, "integrations", "list", "--worker", "http://127.0.0.1:1")
    assert (outcome.status, "is the worker running?" in outcome.err) == (3, True)
    assert call(capsys, "integrations", "list", "--worker", "ftp://x").status == 2
