"""Streams into a sandbox: opened by name, answered once, and every way in which they are not."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway import sandbox_streams
from gateway.sandbox_streams import NoTunnel, SandboxStream, StreamRefused, open_sandbox_stream
from tests.support.in_process import GatewayInProcess, in_process_gateway
from tests.support.sandbox_end import SandboxEnd
from tests.support.until import until

pytestmark = pytest.mark.uvloop


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[GatewayInProcess]:
    async with in_process_gateway(tmp_path) as gateway:
        yield gateway


def opening(gateway: GatewayInProcess, target: str) -> "asyncio.Task[SandboxStream]":
    return gateway.parts.tasks.spawn(open_sandbox_stream(gateway.parts, "sbx_one", target), name="opening")


async def test_bytes_go_both_ways_once_sandboxd_has_admitted_the_stream(gateway: GatewayInProcess) -> None:
    sandbox = SandboxEnd(await gateway.tunnel())
    asked = opening(gateway, "mcp/files")
    target, end = await sandbox.opened()
    assert target == "mcp/files"
    stream = await asked
    stream.writer.write(b"to the sandbox")
    assert await end.exactly(14) == b"to the sandbox"
    end.send(b"x" * 300_000)
    end.end()
    assert len(await stream.reader.read(-1)) == 300_000
    stream.close()
    assert await end.rest() == b""


async def test_without_a_tunnel_there_is_no_stream(gateway: GatewayInProcess) -> None:
    await gateway.tunnel("sbx_two")
    with pytest.raises(NoTunnel):
        await open_sandbox_stream(gateway.parts, "sbx_one", "mcp/files")


@pytest.mark.parametrize(
    ("answer", "status", "detail"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\n\r\nnothing", 404, "nothing"),
        (b"HTTP/1.1 502 Bad Gateway\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", 502, "no"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", 101, ""),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 100_000, 403, "x" * 100),
        (b"SSH-2.0-OpenSSH\r\n\r\n", 0, "no answer"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, 0, "no answer"),
    ],
)
async def test_what_sandboxd_refuses_is_said(
    gateway: GatewayInProcess, answer: bytes, status: int, detail: str
) -> None:
    sandbox = SandboxEnd(await gateway.tunnel())
    asked = opening(gateway, "setup/1")
    _, end = await sandbox.opened(answer)
    with pytest.raises(StreamRefused) as caught:
        await asked
    assert caught.value.status == status
    assert caught.value.detail.startswith(detail)
    assert len(caught.value.detail) < 2 * sandbox_streams.MAX_REFUSAL_BYTES
    await end.gone()


async def test_a_stream_that_ends_without_an_answer_is_refused(gateway: GatewayInProcess) -> None:
    client = await gateway.tunnel()
    sandbox = SandboxEnd(client)
    asked = opening(gateway, "setup/1")
    _, end = await sandbox.opened(b"")
    end.close()
    with pytest.raises(StreamRefused):
        await asked
    asked = opening(gateway, "setup/1")
    await sandbox.opened(b"")
    client.abort()
    with pytest.raises(StreamRefused):
        await asked


async def test_an_answer_has_its_time(gateway: GatewayInProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox_streams, "ANSWER_SECONDS", 0.01)
    client = await gateway.tunnel()
    sandbox = SandboxEnd(client)
    asked = opening(gateway, "setup/1")
    with pytest.raises(TimeoutError):
        await asked
    _, end = await sandbox.opened(b"")
    assert await end.gone() == b""


async def test_a_tunnel_that_is_ending_takes_no_stream(gateway: GatewayInProcess) -> None:
    await gateway.tunnel()
    host = gateway.parts.tunnels.current("sbx_one")
    assert host is not None
    host.revoke()
    with pytest.raises(StreamRefused):
        await open_sandbox_stream(gateway.parts, "sbx_one", "setup/1")
    await until(lambda: gateway.parts.tunnels.current("sbx_one") is None)
