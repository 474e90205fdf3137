"""The parent by itself, with light programs as its serving processes: what it opens, what it answers, how it ends."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from demo.certificates import write_origin_files
from gateway.config import GatewayConfig, load_config
from gateway.processes.parent import _Parent
from gateway.starting import StartError
from sallyport_cli.keys import new_private_key, public_pem
from tests.support.gateway_plans import plan
from tests.support.raw_end import RawAnswer, RawEnd
from tests.support.stub_fleet import COMMAND, eventually

pytestmark = pytest.mark.uvloop


def read_config(folder: Path, **further: object) -> GatewayConfig:
    (folder / "tokens.pem").write_bytes(public_pem(new_private_key()))
    (folder / "plan.json").write_bytes(plan([]))
    (folder / "gateway.yaml").write_text("{}")
    document: dict[str, object] = {
        "listen": {"proxy": "127.0.0.1:0", "tunnel": "127.0.0.1:0", "admin": "127.0.0.1:0"},
        "workers": 2,
        "plans": ["plan.json"],
        "tokens": {"public_key": "tokens.pem"},
        "audit": {"path": "off"},
        "timeouts": {"drain": "1s"},
    }
    return load_config(document | further, {}, folder)


class Running:
    """A parent that runs, and what it has logged."""

    def __init__(self, parent: _Parent, folder: Path, ended: asyncio.Task[int]) -> None:
        self.parent = parent
        self.folder = folder
        self.ended = ended

    async def ask(self, method: str, path: str, body: bytes = b"") -> RawAnswer:
        end = await RawEnd.dial(self.parent.admin[0][1])
        end.send(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = await end.answer()
        end.writer.transport.abort()
        return answer


@contextlib.asynccontextmanager
async def started(folder: Path, **further: object) -> AsyncIterator[Running]:
    """Start one, and drain it at the end."""
    async with contextlib.AsyncExitStack() as opened, asyncio.TaskGroup() as tasks:
        config = read_config(folder, **further)
        parent = _Parent(config, folder / "gateway.yaml", (*COMMAND, str(folder)), opened)
        running = Running(parent, folder, tasks.create_task(parent.run()))
        yield running
        parent.begin_drain()
        await running.ended


async def test_it_is_ready_when_all_are_and_drains_all(tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with started(tmp_path) as running:
            await eventually(lambda: any(each["event"] == "ready" for each in logs))
            assert (await running.ask("GET", "/readyz")).status == 200
            status = (await running.ask("PUT", "/v1/sandboxes/sbx_one/plan", plan([], revision=2))).status
            assert status == 200
            assert b"sallyport_plans_active 1.0\n" in (await running.ask("GET", "/metrics")).body
            process = running.parent._fleet.processes[0]
            assert process.process_id is not None
            os.kill(process.process_id, signal.SIGKILL)
            await eventually(lambda: not process.is_serving)
            reasons = json.loads((await running.ask("GET", "/readyz")).body)["reasons"]
            assert reasons == ["starting"]
            await eventually(lambda: process.is_serving)
            running.parent.hang_up()  # ends a stub, as any signal would; nothing else may come of it
        assert running.ended.result() == 0
    (ready,) = [each for each in logs if each["event"] == "ready"]
    assert ready["processes"] == 2


async def test_a_list_is_that_of_all_and_a_request_goes_where_the_tunnel_is(tmp_path: Path) -> None:
    one = {"sandboxId": "sbx_one", "organizationId": None, "tunnel": False, "streams": 2, "planRevision": 1}
    two = {"sandboxId": "sbx_one", "organizationId": "org_one", "tunnel": True, "streams": 3, "planRevision": None}
    other = {"sandboxId": "sbx_a", "organizationId": "org_one", "tunnel": False, "streams": 0, "planRevision": None}
    (tmp_path / "sandboxes-1").write_text(json.dumps({"items": [one]}))
    (tmp_path / "sandboxes-2").write_text(json.dumps({"items": [two, other]}))
    (tmp_path / "reports-2").write_text('{"tunnel": "sbx_one", "epoch": 1}')
    async with started(tmp_path) as running:
        fleet = running.parent._fleet
        await eventually(lambda: fleet.is_serving and fleet.tunnels.process("sbx_one") == 2)
        items = json.loads((await running.ask("GET", "/v1/sandboxes")).body)["items"]
        assert items == [other, one | {"organizationId": "org_one", "tunnel": True, "streams": 5}]
        answer = json.loads((await running.ask("GET", "/v1/sandboxes/sbx_one/mcp/m%2F1?x=y")).body)
        assert (answer["number"], answer["path"]) == (2, "/v1/sandboxes/sbx_one/mcp/m%2F1?x=y")
        answer = json.loads((await running.ask("GET", "/v1/sandboxes/sbx_none/setup")).body)
        assert answer["number"] == 1


async def test_off_loopback_it_shows_a_certificate_and_asks_for_a_token(tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir()
    files = write_origin_files(tmp_path / "tls", ["gateway.test"])
    tls = {"certificate_file": str(files.certificate_file), "key_file": str(files.key_file)}
    listening = {"proxy": "127.0.0.1:0", "tunnel": "127.0.0.1:0", "admin": "0.0.0.0:0"}
    async with started(tmp_path, admin={"tls": tls}, listen=listening) as running:
        await eventually(lambda: bool(running.parent.admin))
        for path, status in (("/healthz", 200), ("/readyz", 401), ("/v1/sandboxes", 401), ("/metrics", 401)):
            end = await RawEnd.dial(running.parent.admin[0][1])
            await end.start_tls(ssl.create_default_context(cafile=files.ca_file), "gateway.test")
            end.send(f"GET {path} HTTP/1.1\r\nHost: gateway.test\r\n\r\n".encode())
            assert (await end.answer()).status == status
            end.writer.transport.abort()


@pytest.mark.parametrize(
    ("further", "words"),
    [
        ({"tokens": {"public_key": "gone.pem"}}, "tokens.public_key"),
        ({"plans": ["gone.json"]}, "gone.json"),
        ({"upstream": {"ca_file": "gone.pem"}}, "upstream.ca_file"),
        ({"audit": {"path": "/nowhere/at/all"}}, "audit.path"),
        ({"listen": {"proxy": "192.0.2.1:3128", "admin": "127.0.0.1:0"}}, "192.0.2.1:3128"),
    ],
)
async def test_what_is_wrong_is_told_before_anything_is_started(
    tmp_path: Path, further: dict[str, object], words: str
) -> None:
    async with contextlib.AsyncExitStack() as opened:
        parent = _Parent(read_config(tmp_path, **further), tmp_path / "gateway.yaml", COMMAND, opened)
        with pytest.raises(StartError) as failure:
            await parent.run()
    assert words in str(failure.value)
    assert not (tmp_path / "orders").exists()


async def test_another_gateway_at_the_same_port_is_noticed(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken:
        listen = {"proxy": f"127.0.0.1:{taken.getsockname()[1]}", "admin": "127.0.0.1:0"}
        async with contextlib.AsyncExitStack() as opened:
            parent = _Parent(read_config(tmp_path, listen=listen), tmp_path / "gateway.yaml", COMMAND, opened)
            with pytest.raises(StartError, match="is taken by another process"):
                await parent.run()


async def run_with_failure(folder: Path, status: str) -> int:
    (folder / "fails-2").write_text(status)
    async with contextlib.AsyncExitStack() as opened:
        return await _Parent(read_config(folder), folder / "gateway.yaml", (*COMMAND, str(folder)), opened).run()


async def test_a_process_that_cannot_start_ends_it_with_its_status(tmp_path: Path) -> None:
    assert await run_with_failure(tmp_path, "3") == 3


async def test_a_process_that_ends_without_a_reason_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="serving process 2 ended with status 0 at its start"):
        await run_with_failure(tmp_path, "0")


async def test_an_end_before_the_start_is_an_end(tmp_path: Path) -> None:
    (tmp_path / "hangs").write_text("/internal/serve")
    async with started(tmp_path) as running:
        orders: Callable[[], bool] = (tmp_path / "orders").exists
        await eventually(orders)
        running.parent.begin_drain()
        assert await running.ended == 0
