"""A deputy and the sandboxd it acts for, over a real socket: documents carried out, what runs reached."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from sallyport.deputy import SHELL_FILE
from sallyport.net.clock import Clock
from sallyport.setup import setup_digest
from sandboxd.deputy.delegated_setup import DelegatedSetup
from sandboxd.deputy.delegated_streams import DelegatedStreams
from sandboxd.deputy.door import BETWEEN_LINKS_SECONDS
from sandboxd.deputy.program import EXIT_ENVIRONMENT, EXIT_OK, Deputy
from tests.support.deputies import DoorOfTest, open_door
from tests.support.gateway_process import ROOT
from tests.support.passing_time import let_time_pass
from tests.support.setup_documents import (
    ENVIRONMENT,
    Json,
    artifact_document,
    client_document,
    exec_step,
    has_content,
    process_document,
    setup_body,
    shell,
    task_set,
)
from tests.support.transports import End
from tests.support.until import until

pytestmark = pytest.mark.uvloop

SECONDS = 20
CAT = {"serverId": "echo", "bindingId": "bnd_one", "name": "echo"} | {
    "transport": {"type": "stdio", "command": "cat", "args": []}
}


class Side:
    """A sandboxd that stands outside, as far as its set-up goes, and the gateway's ear."""

    def __init__(self, there: DoorOfTest) -> None:
        self.there = there
        self.sent: list[Mapping[str, object]] = []
        clock = there.door.clock
        self.setup = DelegatedSetup(there.door, clock=clock, send_status=self.sent.append)
        self.streams = DelegatedStreams(there.door, self.setup, clock=clock)

    def send(self, revision: int, **fields: object) -> None:
        body = setup_body(revision, **fields)
        self.setup.announce(
            {"type": "setup.apply", "revision": revision, "digest": setup_digest(body), "sizeBytes": len(body)}
        )
        self.setup.document_received(revision, body)

    async def settled(self, revision: int) -> Any:  # noqa: ANN401  JSON
        await until(
            lambda: bool(self.sent) and self.sent[-1]["revision"] == revision and self.sent[-1]["state"] != "applying"
        )
        return self.sent[-1]

    async def close(self) -> None:
        await self.streams.close()
        await self.setup.close()


@contextlib.asynccontextmanager
async def deputy(there: DoorOfTest, state: Path) -> AsyncIterator[Deputy]:
    clock = Clock(asyncio.get_running_loop())
    async with task_set() as tasks:
        made = Deputy(ENVIRONMENT, state, tasks=tasks, clock=clock, name=there.name)
        await made.start()
        try:
            yield made
        finally:
            await made.close()
    clock.close()


async def test_a_document_is_carried_out_and_what_it_declares_is_reached(tmp_path: Path) -> None:
    async with open_door() as there, deputy(there, tmp_path / "state"):
        side = Side(there)
        client = client_document(processes=[process_document("main", shell(f"echo $A > {tmp_path}/a; exec sleep 60"))])
        tool = artifact_document("tool", [exec_step(shell(f"echo once >> {tmp_path}/tool"))]) | {"env": {"A": "b"}}
        declared = {"artifacts": [tool], "environment": {"A": "b"}}
        side.send(1, **declared, runtimeClients=[client], mcpServers=[CAT])
        status = await side.settled(1)
        assert [step["name"] for step in status["steps"]] == ["environment", "artifact/tool", "process/agent/main"]
        assert status["state"] == "applied"
        await until(lambda: has_content(tmp_path / "a"))
        assert (tmp_path / "a").read_text() == "b\n"
        # Its shell file is where other programs are told to look.
        assert "export A=b\n" in (tmp_path / "state" / Path(SHELL_FILE).relative_to(".sallyport")).read_text()
        stream = there.gateway_stream(side.streams.connect, "mcp/echo")
        await stream.until(lambda end: bytes(end.received).endswith(b"\r\n\r\n"))
        head = bytes(stream.received)
        assert head.startswith(b"HTTP/1.1 200 ")
        # From here on it is HTTP with the server's sessions (tests/sandboxd/mcp).
        stream.transport.write(b"no request\r\n\r\n")
        await stream.until_event("eof")
        assert stream.received.removeprefix(head).startswith(b"HTTP/1.1 400 ")
        missing: End = there.gateway_stream(side.streams.connect, "mcp/other")
        await missing.until_event("eof")
        assert missing.received.startswith(b"HTTP/1.1 404 ")
        side.sent.clear()
        side.send(1, **declared)
        assert "another document of this revision" in (await side.settled(1))["steps"][0]["issue"]
        await side.close()


async def test_it_goes_on_without_its_sandboxd_and_comes_back(tmp_path: Path) -> None:
    async with open_door() as there, deputy(there, tmp_path / "state"):
        side = Side(there)
        side.send(1, runtimeClients=[client_document(processes=[stay(tmp_path / "pid")])])
        await side.settled(1)
        await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "")
        pid = (tmp_path / "pid").read_text()
        assert there.door._link is not None
        there.door._link.tunnel.abort()
        await until(lambda: there.door.tunnel is None)
        let_time_pass(there.door.clock, BETWEEN_LINKS_SECONDS)
        side.sent.clear()
        await until(lambda: there.door.tunnel is not None)
        assert (await side.settled(1))["state"] == "applied"
        assert (tmp_path / "pid").read_text() == pid
        await side.close()


def stay(pid: Path) -> Json:
    ready = {"kind": "none"}
    return process_document("main", shell(f"echo $$ >> {pid}; exec sleep 60"), readiness=ready)


async def test_what_sandboxd_does_not_say(tmp_path: Path) -> None:
    async with open_door() as there, deputy(there, tmp_path / "state"):
        await until(lambda: there.door.tunnel is not None)
        assert there.door.tunnel is not None
        there.door.tunnel.send_control({"type": "of a newer one"})
        there.door.tunnel.send_control({"type": "setup.apply"})
        await until(lambda: there.door.tunnel is None)


def test_as_a_command(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    with command(environment) as process:
        while not (tmp_path / SHELL_FILE).exists():
            assert process.poll() is None
        # Its handlers are there before anything is written.
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == EXIT_OK
    (tmp_path / "file").touch()
    with command(environment | {"HOME": str(tmp_path / "file")}) as process:
        assert process.wait(SECONDS) == EXIT_ENVIRONMENT


def command(environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-P", "-m", "sandboxd.deputy.program"], env=environment)
