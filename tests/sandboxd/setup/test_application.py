"""One document after another against a real sandbox of files and processes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from sallyport.setup import SetupDocument
from sandboxd.setup import application
from sandboxd.setup.application import Application, Running
from sandboxd.setup.artifacts import Ledger
from sandboxd.setup.parts import SetupParts
from sandboxd.setup.process import ProcessState
from tests.support.refusing_port import refusing_port
from tests.support.setup_documents import (
    Json,
    artifact_document,
    client_document,
    exec_step,
    file_document,
    has_content,
    is_alive,
    process_document,
    python,
    setup_of,
    setup_parts,
    shell,
)
from tests.support.until import until

STAY = shell("exec sleep 60")
# Serves 204 to every request on the port it is given, where nobody does so already.
SERVER = """
import socket, sys
place = ("127.0.0.1", int(sys.argv[1]))
with socket.socket() as asking:
    if asking.connect_ex(place) == 0:
        sys.exit("somebody listens here already")
listener = socket.create_server(place, reuse_port=True)
while True:
    link = listener.accept()[0]
    if link.recv(4096):
        link.sendall(b"HTTP/1.1 204 No Content\\r\\n\\r\\n")
    link.close()
"""


class Sandbox:
    """What one application leaves to the next."""

    def __init__(self, parts: SetupParts) -> None:
        self.parts = parts
        self.running: Running = {}
        self.failed: list[str] = []
        self.changes = 0

    async def apply(self, document: SetupDocument) -> list[tuple[str, str]]:
        application = Application(
            self.parts,
            document,
            self.running,
            ledger=Ledger(self.parts.directory / "installed.json"),
            on_change=self._changed,
            on_process_failed=self.failed.append,
        )
        await application.run()
        items = application.steps.to_document()["steps"]
        assert isinstance(items, list)
        self.issues = [item["issue"] for item in items if "issue" in item]
        return [(item["name"], item["state"]) for item in items]

    def _changed(self) -> None:
        self.changes += 1

    def pid(self, name: str) -> int:
        child = self.running[name]._child
        return 0 if child is None else child.pid


@contextlib.asynccontextmanager
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    async with setup_parts(tmp_path / "state") as parts:
        there = Sandbox(parts)
        try:
            yield there
        finally:
            async with asyncio.timeout(10), asyncio.TaskGroup() as group:
                for process in there.running.values():
                    group.create_task(process.stop())


async def test_everything_in_its_order(tmp_path: Path) -> None:
    script = shell(f'cat {tmp_path}/tool {tmp_path}/a/config; echo "$DOC $CLIENT $COMMAND $0"; exec sleep 60')
    process = process_document("main", [], command={"args": script, "env": {"COMMAND": "command"}})
    files = [file_document(tmp_path / "a/config", "config\n")]
    document = setup_of(
        artifacts=[artifact_document("tool", [exec_step(shell(f"echo tool > {tmp_path}/tool"))])],
        runtimeClients=[client_document(processes=[process], files=files, env={"CLIENT": "client", "DOC": "client's"})],
        environment={"DOC": "document"},
    )
    async with sandbox(tmp_path) as there:
        assert await there.apply(document) == [
            ("environment", "done"),
            ("artifact/tool", "done"),
            ("files/agent", "done"),
            ("process/agent/main", "done"),
        ]
        log = there.running["agent/main"].log
        await until(lambda: log.tail(100).endswith(b"sh\n"))
        assert log.tail(100) == b"tool\nconfig\nclient's client command sh\n"
        assert "export DOC=document\n" in there.parts.shell_file.read_text()
        assert there.changes >= 8


async def test_launch_arguments_follow_the_command(tmp_path: Path) -> None:
    client = client_document(processes=[process_document("main", [*shell('echo "$0 $1"'), "own"])])
    client["setup"]["launchArgs"] = ["added"]
    async with sandbox(tmp_path) as there:
        await there.apply(setup_of(runtimeClients=[client]))
        await until(lambda: there.running["agent/main"].state is ProcessState.EXITED)
        assert there.running["agent/main"].log.tail(10).startswith(b"own added\n"[-10:])


async def test_again_does_nothing_and_a_newer_one_only_what_differs(tmp_path: Path) -> None:
    def document(revision: int, **other: str) -> SetupDocument:
        names = {"same": "1", "changed": "1", "env": "1", "cwd": "/"} | other
        same = process_document("same", STAY) | {"restart": (names["same"] == "1" and "never") or "always"}
        changed = process_document("changed", [*STAY, names["changed"]])
        env = process_document("env", STAY, command={"args": STAY, "env": {"A": names["env"]}})
        gone = [process_document("gone", STAY)] if revision == 1 else [process_document("new", STAY)]
        return setup_of(revision=revision, runtimeClients=[client_document(processes=[same, changed, env, *gone])])

    async with sandbox(tmp_path) as there:
        await there.apply(document(1))
        first = {name: there.pid(name) for name in there.running}
        await there.apply(document(1))
        assert {name: there.pid(name) for name in there.running} == first
        steps = await there.apply(document(2, same="2", changed="2", env="2"))
        assert steps == [
            ("environment", "done"),
            ("stop/agent/gone", "done"),
            ("process/agent/same", "done"),
            ("process/agent/changed", "done"),
            ("process/agent/env", "done"),
            ("process/agent/new", "done"),
        ]
        second = {name: there.pid(name) for name in there.running}
        assert second["agent/same"] == first["agent/same"]
        assert there.running["agent/same"].declared.restart == "always"
        assert not {first["agent/changed"], first["agent/env"], first["agent/gone"]} & set(second.values())
        assert not is_alive(first["agent/gone"])


async def test_a_failed_step_skips_what_needs_it_and_leaves_what_runs(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    good, bad = process_document("main", STAY), file_document(tmp_path / "link/x", "x")
    async with sandbox(tmp_path) as there:
        await there.apply(setup_of(runtimeClients=[client_document("a", [good]), client_document("b", [good])]))
        before = there.pid("a/main")
        changed = process_document("main", [*STAY, "changed"])
        clients = [client_document("a", [changed], files=[bad]), client_document("b", [good])]
        assert await there.apply(setup_of(revision=2, runtimeClients=clients)) == [
            ("environment", "done"),
            ("files/a", "failed"),
            ("process/a/main", "skipped"),
            ("process/b/main", "done"),
        ]
        assert there.issues == [
            f"{tmp_path}/link is a symbolic link; the document has to name the path it leads to",
            "needs files/a",
        ]
        assert there.pid("a/main") == before
        assert is_alive(before)


async def test_needs_of_a_process(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    source = {"sourceKind": "git-clone", "path": f"{tmp_path}/full", "originUrl": "http://127.0.0.1:9/x"}
    inside = process_document("inside", STAY, command={"args": STAY, "cwd": f"{tmp_path}/full"})
    beside = process_document("beside", STAY, command={"args": STAY, "cwd": str(tmp_path)})
    async with sandbox(tmp_path) as there:
        clients = [client_document(processes=[inside, beside])]
        steps = dict(await there.apply(setup_of(workspaceSources=[source], runtimeClients=clients)))
        assert steps[f"workspace{tmp_path}/full"] == "failed"
        assert (steps["process/agent/inside"], steps["process/agent/beside"]) == ("skipped", "done")
        artifact = artifact_document("tool", [exec_step(shell("exit 1"))])
        clients = [client_document(processes=[process_document("new", STAY)])]
        steps = dict(await there.apply(setup_of(revision=2, artifacts=[artifact], runtimeClients=clients)))
        assert (steps["artifact/tool"], steps["process/agent/new"]) == ("failed", "skipped")


async def test_artifacts_that_say_what_they_come_after_are_installed_side_by_side(tmp_path: Path) -> None:
    """Neither of the first two ends before the other has begun; what comes after one has what that one left."""

    def meets(own: str, other: str) -> Sequence[object]:
        script = f"touch {tmp_path}/{own}; until test -e {tmp_path}/{other}; do sleep 0.01; done"
        return [exec_step(shell(script), timeoutMs=20_000)]

    artifacts = [
        artifact_document("left", meets("left", "right"), after=[]),
        artifact_document("right", [*meets("right", "left"), exec_step(shell(f"touch {tmp_path}/whole"))], after=[]),
        artifact_document("upon", [exec_step(shell(f"test -e {tmp_path}/whole"))], after=["right"]),
        artifact_document("last", [exec_step(shell(f"test -e {tmp_path}/whole"))]),
    ]
    async with sandbox(tmp_path) as there:
        assert await there.apply(setup_of(artifacts=artifacts)) == [
            ("environment", "done"),
            *((f"artifact/{key}", "done") for key in ("left", "right", "upon", "last")),
        ]
        # In the order of the document, whichever ended first.
        assert Ledger(there.parts.directory / "installed.json").installed_keys() == ("left", "right", "upon", "last")


async def test_artifacts_without_a_word_come_one_after_the_other(tmp_path: Path) -> None:
    """None begins while another is at work, also when that one fails."""
    alone = shell(f"mkdir {tmp_path}/at-work && sleep 0.05 && rmdir {tmp_path}/at-work")
    artifacts = [artifact_document(key, [exec_step(alone)]) for key in ("one", "two", "three")]
    artifacts.insert(1, artifact_document("bad", [exec_step(alone), exec_step(shell("exit 1"))]))
    async with sandbox(tmp_path) as there:
        steps = await there.apply(setup_of(artifacts=artifacts))
        states = [("one", "done"), ("bad", "failed"), ("two", "done"), ("three", "done")]
        assert steps[1:] == [(f"artifact/{key}", state) for key, state in states]


async def test_no_more_installations_at_once_than_the_limit(tmp_path: Path) -> None:
    """Each counts those at work when it begins."""
    (tmp_path / "busy").mkdir()
    script = shell(
        f"touch {tmp_path}/busy/$$; ls {tmp_path}/busy | wc -l >> {tmp_path}/counts; sleep 0.1; rm {tmp_path}/busy/$$"
    )
    artifacts = [artifact_document(f"a{number}", [exec_step(script)], after=[]) for number in range(10)]
    async with sandbox(tmp_path) as there:
        await there.apply(setup_of(artifacts=artifacts))
    counts = [int(line) for line in (tmp_path / "counts").read_text().split()]
    assert len(counts) == 10
    assert 2 <= max(counts) <= application.MAX_STEPS_AT_ONCE


async def test_a_failed_artifact_fails_only_what_comes_after_it(tmp_path: Path) -> None:
    artifacts = [
        artifact_document("bad", [exec_step(shell("exit 3"))], after=[]),
        artifact_document("beside", [], after=[]),
        artifact_document("upon", [], after=["beside", "bad"]),
        artifact_document("upon-that", [], after=["upon"]),
    ]
    async with sandbox(tmp_path) as there:
        steps = await there.apply(setup_of(artifacts=artifacts))
        assert [state for _, state in steps[1:]] == ["failed", "done", "skipped", "skipped"]
        assert there.issues == ["sh exited with code 3", "needs artifact/bad", "needs artifact/upon"]


async def test_artifacts_are_removed_in_the_reverse_of_the_order_last_declared(tmp_path: Path) -> None:
    def declared(key: str, after: Sequence[str] | None = None, *, script: str = "true") -> Json:
        remove = [exec_step(shell(f"echo {key} >> {tmp_path}/removed; {script}"))]
        return artifact_document(key, [], after=after, remove=remove)

    async with sandbox(tmp_path) as there:
        await there.apply(
            setup_of(artifacts=[declared("a", []), declared("b", []), declared("c", ["a"]), declared("d")])
        )
        # b stands first now: nothing is installed for that, and it is the last to go.
        turned = [declared("b", []), declared("a", ["b"]), declared("c", ["a"], script=f"test -e {tmp_path}/free")]
        await there.apply(setup_of(revision=2, artifacts=turned))
        assert (tmp_path / "removed").read_text().split() == ["d"]
        steps = await there.apply(setup_of(revision=3))
        assert steps[1:] == [("remove/c", "failed"), ("remove/a", "skipped"), ("remove/b", "skipped")]
        assert there.issues[1:] == ["needs remove/c", "needs remove/a"]
        (tmp_path / "free").touch()
        assert [state for _, state in await there.apply(setup_of(revision=3))] == ["done"] * 4
        assert (tmp_path / "removed").read_text().split() == ["d", "c", "c", "a", "b"]


async def test_artifacts_go_when_nothing_runs_any_more_that_uses_them(tmp_path: Path) -> None:
    remove = [exec_step(shell(f"kill -0 $(cat {tmp_path}/pid) 2> /dev/null || touch {tmp_path}/removed"))]
    artifact = artifact_document("tool", [], remove=remove)
    process = process_document("main", shell(f"echo $$ > {tmp_path}/pid; exec sleep 60"))
    async with sandbox(tmp_path) as there:
        await there.apply(setup_of(artifacts=[artifact], runtimeClients=[client_document(processes=[process])]))
        await until(lambda: has_content(tmp_path / "pid"))
        steps = await there.apply(setup_of(revision=2))
        assert steps == [("environment", "done"), ("stop/agent/main", "done"), ("remove/tool", "done")]
        assert (tmp_path / "removed").exists()
        assert await there.apply(setup_of(revision=3)) == [("environment", "done")]


async def test_ready_by_http_and_restarted_on_the_same_port(tmp_path: Path) -> None:
    def document(revision: int, port: int) -> SetupDocument:
        ready = {
            "kind": "http",
            "url": f"http://127.0.0.1:{port}/",
            "expectedStatus": 204,
            "timeoutMs": 10_000,
        }
        command = {"args": [*python(SERVER), str(port)], "env": {"REVISION": str(revision)}}
        process = process_document("main", [], command=command, readiness=ready)
        return setup_of(revision=revision, runtimeClients=[client_document(processes=[process])])

    with refusing_port() as port:
        async with sandbox(tmp_path) as there:
            for revision in (1, 2):
                assert ("process/agent/main", "done") in await there.apply(document(revision, port))


async def test_never_ready_is_told_and_the_process_stays(tmp_path: Path) -> None:
    with refusing_port() as port:
        ready = {"kind": "tcp", "host": "127.0.0.1", "port": port, "timeoutMs": 300}
        process = process_document("main", STAY, readiness=ready)
        async with sandbox(tmp_path) as there:
            document = setup_of(runtimeClients=[client_document(processes=[process])])
            assert ("process/agent/main", "failed") in await there.apply(document)
            assert there.issues == [f"not ready within 300 ms: nothing accepts on port {port}"]
            assert is_alive(there.pid("agent/main"))


async def test_one_that_fails_while_it_is_waited_for(tmp_path: Path) -> None:
    with refusing_port() as port:
        ready = {"kind": "tcp", "host": "127.0.0.1", "port": port, "timeoutMs": 60_000}
        process = process_document("main", shell("echo no port >&2; exit 2"), readiness=ready, restart="always")
        async with sandbox(tmp_path) as there:
            document = setup_of(runtimeClients=[client_document(processes=[process])])
            assert ("process/agent/main", "failed") in await there.apply(document)
            assert there.issues == ["crash loop after 4 failures: exited with code 2: no port"]


async def test_what_failed_is_started_anew_and_what_has_done_its_work_is_not(tmp_path: Path) -> None:
    def script(name: str, code: int) -> list[str]:
        return shell(f"echo x >> {tmp_path}/{name}; exit {code}")

    def runs(name: str) -> int:
        return (tmp_path / name).read_text().count("x") if has_content(tmp_path / name) else 0

    processes = [process_document("good", script("good", 0)), process_document("bad", script("bad", 1))]
    document = setup_of(runtimeClients=[client_document(processes=processes)])
    async with sandbox(tmp_path) as there:
        for count in (1, 2):
            await there.apply(document)
            await until(lambda: all(process.is_over for process in there.running.values()))
            assert (runs("good"), runs("bad")) == (1, count)
        assert there.failed.count("agent/bad") >= 1
        assert "agent/good" not in there.failed


async def test_given_up_half_way_it_can_be_applied_again(tmp_path: Path) -> None:
    slow = artifact_document("tool", [exec_step(shell(f"echo $$ > {tmp_path}/pid; sleep 60"), timeoutMs=60_000)])
    async with sandbox(tmp_path) as there, asyncio.TaskGroup() as group:
        applying = group.create_task(there.apply(setup_of(artifacts=[slow])))
        await until(lambda: has_content(tmp_path / "pid"))
        applying.cancel()
        await asyncio.wait({applying})
        await until(lambda: not is_alive(int((tmp_path / "pid").read_text())))
        quick = artifact_document("tool", [])
        assert ("artifact/tool", "done") in await there.apply(setup_of(revision=2, artifacts=[quick]))


async def test_a_defect_of_ours_ends_the_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("planted")

    monkeypatch.setattr(application, "write_shell_file", fail)
    async with setup_parts(tmp_path) as parts:
        changes: list[None] = []
        broken = Application(
            parts,
            setup_of(),
            {},
            ledger=Ledger(tmp_path / "installed.json"),
            on_change=lambda: changes.append(None),
            on_process_failed=lambda name: None,
        )
        with pytest.RaisesGroup(pytest.RaisesExc(ValueError, match="planted")):
            await broken.run()
        assert broken.steps.to_document()["steps"] == [
            {"name": "environment", "state": "failed", "issue": "sandboxd failed; its log says why"}
        ]
        assert (broken.steps.state, len(changes)) == ("failed", 2)
