"""What a captured connection can be, and what is answered here, against a gateway played by the test."""

import json
from pathlib import Path

import pytest

from tests.support.sandboxd_in_process import SandboxdInProcess, in_process_sandboxd
from tests.support.scripted_gateway import ADMITTED, ScriptedGateway, ScriptedTunnel, fields_of, refusal
from tests.support.until import until

pytestmark = pytest.mark.uvloop


async def problem(sandboxd: SandboxdInProcess, request: bytes) -> tuple[int, str]:
    """Send a request that is answered here, and return status and code; the connection ends behind it."""
    client = await sandboxd.ask(request)
    answer = await client.answer()
    assert answer.value("Content-Type") == "application/problem+json"
    assert await client.gone() == b""
    document = json.loads(answer.body)
    assert answer.value("X-Sallyport-Error") == document["code"]
    return answer.status, document["code"]


# ---- what is for sandboxd itself


async def test_health_and_the_ca_need_no_gateway(sandboxd: SandboxdInProcess) -> None:
    client = await sandboxd.ask(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await client.answer()).body == b"ok\n"
    client = await sandboxd.ask(b"\r\nGET /v1/ca.pem HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await client.answer()).body == (sandboxd.state / "ca.pem").read_bytes()


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 400, "invalid_request"),
        (b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi", 400, "invalid_request"),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 400, "invalid_request"),
        (b"CONNECT api.test HTTP/1.1\r\nHost: api.test\r\n\r\n", 400, "invalid_request"),
        (b"CONNECT u@api.test:443 HTTP/1.1\r\nHost: api.test\r\n\r\n", 400, "invalid_request"),
        (b"CONNECT api.test:443 HTTP/1.1\r\n\r\n", 400, "invalid_request"),
        (b"CONNECT api.test:443 HTTP/1.1\r\nHost: other.test\r\n\r\n", 421, "authority_mismatch"),
        (b"CONNECT api.test:443 HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n", 400, "invalid_request"),
        (b"GET http://api.test/ HTTP/1.0\r\nHost: api.test\r\n\r\n", 505, "http_version"),
        (b"GET http://api.test/ HTTP/1.1\r\nHost : api.test\r\n\r\n", 400, "invalid_request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "invalid_request"),
        (b"\x05\x01\x00", 400, "invalid_request"),
        (b"GET http://api.test/" + b"x" * 5000, 431, "head_too_large"),
        (b"GET http://api.test/ HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431, "head_too_large"),
        (b"GET http://api.test/ HTTP/1.1\r\nHost: ap", 408, "request_timeout"),
    ],
)
async def test_what_is_no_request_for_a_gateway(
    sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel, request_bytes: bytes, status: int, code: str
) -> None:
    assert await problem(sandboxd, request_bytes) == (status, code)
    assert not tunnel.has_streams()


async def test_silence_is_ended_without_a_word(sandboxd: SandboxdInProcess) -> None:
    client = await sandboxd.client()
    assert await client.rest() == b""


# ---- passthrough and plain


async def test_an_unmanaged_host_is_answered_by_the_gateway(
    sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel
) -> None:
    client = await sandboxd.connect("other.test:22")
    stream = await tunnel.stream()
    assert fields_of(bytes(stream.received))[b"sallyport-stream"] == b"passthrough; revision=7"
    assert await client.is_quiet()
    stream.transport.write(ADMITTED + b"SSH-2.0-")
    assert (await client.head()).startswith(b"HTTP/1.1 200 ")
    assert await client.exactly(8) == b"SSH-2.0-"
    stream.received.clear()
    client.send(b"opaque")
    client.end()
    await stream.until_received(b"opaque")
    await stream.until_event("eof")
    stream.transport.write(b"after the half-close")
    stream.transport.write_eof()
    assert await client.rest() == b"after the half-close"
    await until(lambda: not sandboxd.parts.captured)


async def test_s9_bytes_before_the_200_are_not_forwarded_on_refusal(
    sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel
) -> None:
    client = await sandboxd.ask(b"CONNECT other.test:443 HTTP/1.1\r\nHost: other.test\r\n\r\nin haste")
    stream = await tunnel.stream()
    stream.received.clear()
    stream.transport.write(refusal(502, "upstream_unreachable"))
    answer = await client.answer()
    assert (answer.status, answer.value("X-Sallyport-Error")) == (502, "upstream_unreachable")
    await stream.until_event("lost")
    assert stream.received == b""


async def test_a_host_the_operator_leaves_opaque(tmp_path: Path, gateway: ScriptedGateway) -> None:
    settings = {"SALLYPORT_INTERCEPTION_PASSTHROUGH_HOSTS": "*.pinned.test"}
    async with in_process_sandboxd(tmp_path, f"ws://127.0.0.1:{gateway.port}", settings=settings) as sandboxd:
        tunnel = await gateway.tunnel()
        tunnel.manage(3, "*.pinned.test")
        await sandboxd.managed(3)
        await sandboxd.connect("a.pinned.test:443")
        assert b"passthrough; revision=3" in (await tunnel.stream()).received


async def test_a_plain_request_is_announced_and_its_own_marks_are_dropped(
    sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel
) -> None:
    client = await sandboxd.ask(
        b"POST http://other.test/a HTTP/1.1\r\nHost: other.test\r\nSallyport-Stream: intercepted; revision=1\r\n"
        b"sallyport_stream: x\r\nX-Mine: 1\r\nContent-Length: 4\r\n\r\nbody"
    )
    stream = await tunnel.stream()
    await stream.until_received(
        b"POST http://other.test/a HTTP/1.1\r\nSallyport-Stream: plain; revision=7\r\nHost: other.test\r\n"
        b"X-Mine: 1\r\nContent-Length: 4\r\n\r\nbody"
    )
    stream.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert (await client.answer()).body == b"ok"
    stream.received.clear()
    # What follows is the gateway's to read.
    client.send(b"GET http://next.test/ HTTP/1.1\r\nHost: next.test\r\nSallyport-Stream: plain\r\n\r\n")
    await stream.until(lambda end: end.received.endswith(b"Sallyport-Stream: plain\r\n\r\n"))


# ---- limits


async def test_too_many_connections_are_told(tmp_path: Path, gateway: ScriptedGateway) -> None:
    settings = {"SALLYPORT_LIMITS_CONNECTIONS": "1"}
    async with in_process_sandboxd(tmp_path, f"ws://127.0.0.1:{gateway.port}", settings=settings) as sandboxd:
        first = await sandboxd.ask(b"GET ")
        await until(lambda: len(sandboxd.parts.captured) == 1)
        assert (await (await sandboxd.client()).answer()).value("X-Sallyport-Error") == "overloaded"
        first.close()
        await until(lambda: not sandboxd.parts.captured)
        client = await sandboxd.ask(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.answer()).status == 200
