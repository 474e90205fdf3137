"""The set-up over its life: documents, statuses, no tunnel, restarts."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from sallyport.net.proc import environment_has
from sallyport.setup import setup_digest
from sallyport.wire.errors import RemoteProtocolError
from sandboxd.setup import setup
from sandboxd.setup.setup import Setup
from tests.support.setup_documents import (
    ENVIRONMENT,
    QUICK,
    Json,
    artifact_document,
    client_document,
    exec_step,
    has_content,
    is_alive,
    process_document,
    setup_body,
    shell,
    task_set,
)
from tests.support.until import until

DEAF = "trap '' TERM; echo $$ > {pid}; while :; do sleep 0.05; done"


class Side:
    """A sandboxd as far as its set-up goes, and the gateway that hears its statuses."""

    def __init__(self, setup: Setup, statuses: list[Any]) -> None:
        self.setup = setup
        self.statuses = statuses

    def announce(self, body: bytes, revision: int) -> None:
        self.setup.announce({"revision": revision, "digest": setup_digest(body), "sizeBytes": len(body)})

    def send(self, body: bytes, revision: int = 1) -> None:
        self.announce(body, revision)
        self.setup.document_received(revision, body)

    async def settled(self, revision: int = 1) -> Json:
        """Wait until a revision is no longer being applied, and return its status."""

        def of_revision() -> list[Json]:
            return [status for status in self.statuses if status["revision"] == revision]

        await until(lambda: bool(of_revision()) and of_revision()[-1]["state"] != "applying")
        return of_revision()[-1]


@contextlib.asynccontextmanager
async def side(state: Path, *, close: bool = True) -> AsyncIterator[Side]:
    statuses: list[Mapping[str, object]] = []
    async with task_set() as tasks:
        setup = Setup(
            state_dir=state,
            base_environment={**ENVIRONMENT, "HTTPS_PROXY": "http://127.0.0.1:3129"},
            send_status=statuses.append,
            tasks=tasks,
            restart_limits=QUICK,
        )
        await setup.restore()
        try:
            yield Side(setup, statuses)
        finally:
            if close:
                async with asyncio.timeout(10):
                    await setup.close(seconds=1)


def stay(pid: Path, **fields: object) -> Json:
    return process_document("main", shell(f"echo $$ > {pid}; exec sleep 60"), **fields)


def body_of(revision: int, *processes: Json, **fields: object) -> bytes:
    return setup_body(revision, runtimeClients=[client_document(processes=processes)], **fields)


def pid_in(path: Path) -> int:
    return int(path.read_text())


async def test_a_document_is_applied_and_told(tmp_path: Path) -> None:
    async with side(tmp_path) as there:
        there.send(body_of(1, stay(tmp_path / "pid")))
        assert await there.settled() == {
            "revision": 1,
            "state": "applied",
            "steps": [{"name": "environment", "state": "done"}, {"name": "process/agent/main", "state": "done"}],
        }
        await until(lambda: has_content(tmp_path / "pid"))
        assert repr(there.setup) == "<Setup: <Steps of revision 1 applied: 2 of 2 done>, 1 processes>"
        pid = pid_in(tmp_path / "pid")
        assert is_alive(pid)
    assert not is_alive(pid)


async def test_the_same_again_is_told_and_nothing_else(tmp_path: Path) -> None:
    body = body_of(1, stay(tmp_path / "pid"))
    async with side(tmp_path) as there:
        there.send(body)
        status = await there.settled()
        await until(lambda: has_content(tmp_path / "pid"))
        (tmp_path / "pid").unlink()
        there.statuses.clear()
        there.send(body)
        assert there.statuses == [status, status]  # to the announcement, and to the document
        assert not (tmp_path / "pid").exists()


async def test_what_failed_is_applied_again_when_it_is_sent_again(tmp_path: Path) -> None:
    body = setup_body(1, artifacts=[artifact_document("tool", [exec_step(shell(f"test -e {tmp_path}/disk"))])])
    async with side(tmp_path) as there:
        there.send(body)
        assert (await there.settled())["state"] == "failed"
        (tmp_path / "disk").touch()
        there.statuses.clear()
        there.send(body)
        assert (await there.settled())["state"] == "applied"


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"revision": 0, "digest": "x", "sizeBytes": 1},
        {"revision": 1, "digest": 1, "sizeBytes": 1},
        {"revision": 1, "digest": "x", "sizeBytes": 0},
        {"revision": 1, "digest": "x", "sizeBytes": 2 * 1024 * 1024 + 1},
        {"revision": "1", "digest": "x", "sizeBytes": 1},
    ],
)
async def test_an_announcement_that_says_nothing(tmp_path: Path, message: Json) -> None:
    async with side(tmp_path) as there:
        with pytest.raises(RemoteProtocolError):
            there.setup.announce(message)
        assert there.setup.announced(1) is None


async def test_documents_that_are_refused(tmp_path: Path) -> None:
    async with side(tmp_path) as there:
        there.send(setup_body(5), 5)
        await there.settled(5)
        cases = [
            (6, setup_body(6) + b"\n", "(document): canonical JSON"),
            (6, setup_body(6, surprise=1, artifacts=None), "/surprise: no such member"),
            (6, setup_body(7), "/revision: the document is of revision 7"),
            (4, setup_body(4), "revision 5 is here already, which is newer"),
            (5, setup_body(5, environment={"A": "b"}), "another document of this revision is here already"),
        ]
        for revision, body, issue in cases:
            there.send(body, revision)
            status = there.statuses[-1]
            assert (status["revision"], status["state"]) == (revision, "failed")
            assert status["steps"][0]["name"] == "document"
            assert status["steps"][0]["issue"].startswith(issue)
        document = there.setup.document
        assert document is not None
        assert document.revision == 5


async def test_what_was_not_announced_is_refused(tmp_path: Path) -> None:
    async with side(tmp_path) as there:
        there.setup.document_received(1, setup_body(1))
        there.announce(setup_body(1), 1)
        there.setup.document_received(1, setup_body(1, environment={"A": "b"}))
        there.setup.document_received(2, setup_body(2))
        assert [status["steps"][0]["issue"] for status in there.statuses] == ["what came is not what was announced"] * 3
        assert there.setup.document is None


async def test_without_a_tunnel_it_goes_on_and_is_told_later(tmp_path: Path) -> None:
    async with side(tmp_path) as there:
        there.send(setup_body(1))
        await there.settled()
        there.setup.document_received(9, b"")
        there.statuses.clear()
        there.setup.tunnel_ready()
        assert [(status["revision"], status["state"]) for status in there.statuses] == [(1, "applied"), (9, "failed")]


async def test_a_newer_revision_takes_the_place_of_one_under_way(tmp_path: Path) -> None:
    slow = artifact_document("slow", [exec_step(shell(f"echo $$ > {tmp_path}/slow; sleep 60"), timeoutMs=60_000)])
    async with side(tmp_path) as there:
        there.send(setup_body(1, artifacts=[slow]))
        await until(lambda: has_content(tmp_path / "slow"))
        there.send(body_of(2, stay(tmp_path / "pid")), 2)
        assert (await there.settled(2))["state"] == "applied"
        await until(lambda: not is_alive(pid_in(tmp_path / "slow")))


async def test_a_process_that_fails_later_is_told(tmp_path: Path) -> None:
    async with side(tmp_path) as there:
        there.send(body_of(1, stay(tmp_path / "pid")))
        await there.settled()
        await until(lambda: has_content(tmp_path / "pid"))
        os.kill(pid_in(tmp_path / "pid"), signal.SIGKILL)
        await until(lambda: there.statuses[-1]["state"] == "failed")
        assert there.statuses[-1]["steps"][-1] == {
            "name": "process/agent/main",
            "state": "failed",
            "issue": "ended by SIGKILL",
        }


async def test_a_restart_applies_what_was_applied(tmp_path: Path) -> None:
    installs = artifact_document("tool", [exec_step(shell(f"echo x >> {tmp_path}/installs"))])
    body = body_of(3, stay(tmp_path / "pid"), artifacts=[installs])
    async with side(tmp_path) as there:
        there.send(body, 3)
        await there.settled(3)
        await until(lambda: has_content(tmp_path / "pid"))
        first = pid_in(tmp_path / "pid")
    async with side(tmp_path) as there:
        assert (await there.settled(3))["state"] == "applied"
        # The shell empties the file before it writes to it.
        await until(lambda: (tmp_path / "pid").read_text().strip() not in ("", str(first)))
        there.statuses.clear()
        there.send(body, 3)
        assert there.statuses[-1]["state"] == "applied"
    assert (tmp_path / "installs").read_text() == "x\n"


async def test_a_restart_goes_on_with_what_was_pending(tmp_path: Path) -> None:
    fails = artifact_document("tool", [exec_step(shell(f"test -e {tmp_path}/disk"))])
    async with side(tmp_path) as there:
        there.send(body_of(1, stay(tmp_path / "one")))
        await there.settled(1)
        there.send(body_of(2, stay(tmp_path / "two"), artifacts=[fails]), 2)
        assert (await there.settled(2))["state"] == "failed"
        await until(lambda: has_content(tmp_path / "one"))
        (tmp_path / "one").unlink()
    async with side(tmp_path) as there:
        # The last whole revision comes up first, so that what fails again leaves what worked.
        assert (await there.settled(2))["state"] == "failed"
        await until(lambda: has_content(tmp_path / "one"))
        assert is_alive(pid_in(tmp_path / "one"))
        assert not (tmp_path / "two").exists()
    (tmp_path / "disk").touch()
    async with side(tmp_path) as there:
        assert (await there.settled(2))["state"] == "applied"
        await until(lambda: has_content(tmp_path / "two"))


async def test_what_a_killed_sandboxd_left_ends_before_anything_starts(tmp_path: Path) -> None:
    mark = shell(f"echo $SALLYPORT_SETUP > {tmp_path}/mark; exec sleep 60")
    async with side(tmp_path) as there:
        there.send(body_of(1, process_document("main", mark)))
        await until(lambda: has_content(tmp_path / "mark"))
    environment = {**ENVIRONMENT, "SALLYPORT_SETUP": (tmp_path / "mark").read_text().strip()}
    left = await asyncio.create_subprocess_exec("sleep", "60", env=environment)
    # A program that was just started has no environment for a moment.
    variable = f"SALLYPORT_SETUP={environment['SALLYPORT_SETUP']}".encode()
    await until(lambda: environment_has(left.pid, variable))
    async with side(tmp_path):
        assert await left.wait() == -signal.SIGKILL


async def test_state_that_cannot_be_read_is_no_state(tmp_path: Path) -> None:
    (tmp_path / "setup").mkdir()
    for name in ("applied.json", "pending.json", "installed.json"):
        (tmp_path / "setup" / name).write_bytes(b"\x00garbage")
    async with side(tmp_path) as there:
        assert there.setup.document is None
        there.send(setup_body(1))
        assert (await there.settled())["state"] == "applied"


async def test_state_of_another_sandbox_does_not_count(tmp_path: Path) -> None:
    async with side(tmp_path) as there:
        there.send(setup_body(7), 7)
        await there.settled(7)
        there.send(setup_body(1, sandboxId="sbx_two"), 1)
        assert (await there.settled(1))["state"] == "applied"


async def test_shells_have_the_variables_before_there_is_a_document(tmp_path: Path) -> None:
    async with side(tmp_path) as there:
        assert "export HTTPS_PROXY=http://127.0.0.1:3129\n" in (tmp_path / "setup/environment.sh").read_text()
        assert there.setup.environment_for({"A": "b"})["A"] == "b"
        there.send(setup_body(1, environment={"A": "document"}))
        await there.settled()
        assert "export A=document\n" in (tmp_path / "setup/environment.sh").read_text()
        assert there.setup.environment_for(None)["A"] == "document"


async def test_closing_kills_what_does_not_end(tmp_path: Path) -> None:
    deaf = process_document(
        "main", shell(DEAF.format(pid=tmp_path / "pid")), stop={"signal": "SIGTERM", "timeoutMs": 60_000}
    )
    async with side(tmp_path, close=False) as there:
        there.send(body_of(1, deaf))
        await until(lambda: has_content(tmp_path / "pid"))
        async with asyncio.timeout(5):
            await there.setup.close(seconds=0.1)
        assert not is_alive(pid_in(tmp_path / "pid"))
        there.statuses.clear()
        there.send(setup_body(2), 2)
        there.setup.tunnel_ready()
        assert there.statuses == []


async def test_a_state_directory_behind_a_link_is_the_operator_s_business(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    async with side(tmp_path / "link") as there:
        there.send(setup_body(1))
        assert (await there.settled())["state"] == "applied"
    assert (tmp_path / "real/setup/applied.json").exists()


async def test_many_changes_are_few_statuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "STATUS_SECONDS", 60.0)  # longer than all of it takes: one at first, and one at its end
    files = [artifact_document(f"a{number}", []) for number in range(50)]
    async with side(tmp_path) as there:
        there.send(setup_body(1, artifacts=files))
        await there.settled()
        assert len(there.statuses) <= 2


async def test_a_state_directory_that_cannot_be_written_to(tmp_path: Path) -> None:
    async with side(tmp_path) as there:
        (tmp_path / "setup").rename(tmp_path / "away")
        (tmp_path / "setup").symlink_to(tmp_path / "away")
        there.send(setup_body(1))
        assert there.statuses[-1]["steps"][0]["issue"] == "the state directory cannot be written to"


# sandboxd runs on uvloop, whose processes and pipes are its own.
@pytest.mark.uvloop
class TestOnUvloop:
    test_applied = staticmethod(test_a_document_is_applied_and_told)
    test_taken_over = staticmethod(test_a_newer_revision_takes_the_place_of_one_under_way)
    test_fails_later = staticmethod(test_a_process_that_fails_later_is_told)
    test_restart = staticmethod(test_a_restart_applies_what_was_applied)
    test_close = staticmethod(test_closing_kills_what_does_not_end)

    async def test_it_is_uvloop(self) -> None:
        assert type(asyncio.get_running_loop()).__module__ == "uvloop"
