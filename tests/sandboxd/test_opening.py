"""Streams asked for: an old managed set, no set, no tunnel, and answers that are none."""

import pytest

from tests.support.sandboxd_in_process import SandboxdInProcess
from tests.support.scripted_gateway import ADMITTED, ScriptedGateway, ScriptedTunnel, refusal
from tests.support.until import until

pytestmark = pytest.mark.uvloop


# ---- a managed set that is old


async def test_a_stale_set_is_waited_for_and_the_stream_opened_once_more(
    sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel
) -> None:
    client = await sandboxd.inside("api.test:443")
    stream = await tunnel.stream()
    stream.transport.write(refusal(421, "stale_interception"))
    await stream.until_event("lost")
    assert not tunnel.has_streams()
    tunnel.manage(8, "api.test")
    again = await tunnel.stream()
    assert b"intercepted; revision=8" in again.received
    again.transport.write(ADMITTED + b"x")
    assert await client.exactly(1) == b"x"


async def test_a_newer_set_that_overtook_its_answer_is_used(
    sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel
) -> None:
    await sandboxd.inside("api.test:443")
    stream = await tunnel.stream()
    tunnel.manage(8, "api.test")
    await sandboxd.managed(8)
    stream.transport.write(refusal(421, "stale_interception"))
    assert b"revision=8" in (await tunnel.stream()).received


async def test_a_passthrough_that_became_managed_is_intercepted(
    sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel
) -> None:
    client = await sandboxd.connect("new.test:443")
    stream = await tunnel.stream()
    stream.transport.write(refusal(421, "stale_interception"))
    tunnel.manage(8, "new.test")
    assert (await client.head()).startswith(b"HTTP/1.1 200 ")
    await client.start_tls(sandboxd.trust(), "new.test")
    assert b"intercepted; revision=8" in (await tunnel.stream()).received


async def test_stale_twice_is_told(sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel) -> None:
    client = await sandboxd.connect("other.test:443")
    for revision in (8, 9):
        stream = await tunnel.stream()
        stream.transport.write(refusal(421, "stale_interception"))
        tunnel.manage(revision, "api.test")
    assert (await client.answer()).status == 421
    assert not tunnel.has_streams()


async def test_a_newer_set_that_never_comes_is_not_waited_for_for_ever(
    sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel
) -> None:
    client = await sandboxd.connect("other.test:443")
    (await tunnel.stream()).transport.write(refusal(421, "stale_interception"))
    assert (await client.answer()).value("X-Sallyport-Error") == "stale_interception"


# ---- nothing to send it to


async def test_before_the_first_set_a_connection_is_held(sandboxd: SandboxdInProcess, gateway: ScriptedGateway) -> None:
    tunnel = await gateway.tunnel()
    client = await sandboxd.connect("api.test:443")
    assert await client.is_quiet()
    tunnel.manage(1, "api.test")
    assert (await client.head()).startswith(b"HTTP/1.1 200 ")
    await client.start_tls(sandboxd.trust(), "api.test")
    assert b"intercepted; revision=1" in (await tunnel.stream()).received


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"CONNECT other.test:443 HTTP/1.1\r\nHost: other.test\r\n\r\n",
        b"GET http://other.test/ HTTP/1.1\r\nHost: other.test\r\n\r\n",
    ],
)
async def test_without_a_set_it_is_503_and_never_passed_through(
    sandboxd: SandboxdInProcess, gateway: ScriptedGateway, request_bytes: bytes
) -> None:
    tunnel = await gateway.tunnel()
    client = await sandboxd.ask(request_bytes)
    answer = await client.answer()
    assert (answer.status, answer.value("X-Sallyport-Error")) == (503, "plan_unavailable")
    assert answer.value("Retry-After") == "5"
    assert not tunnel.has_streams()


async def test_without_a_tunnel_a_connection_is_held_for_the_next_one(
    sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel, gateway: ScriptedGateway
) -> None:
    await gateway.vanish()
    await until(lambda: sandboxd.parts.gateway.tunnel is None)
    client = await sandboxd.connect("other.test:443")
    await gateway.listen()
    stream = await (await gateway.tunnel()).stream()
    stream.transport.write(ADMITTED)
    assert (await client.head()).startswith(b"HTTP/1.1 200 ")


async def test_without_a_tunnel_it_is_503_also_inside_tls(
    sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel, gateway: ScriptedGateway
) -> None:
    await gateway.vanish()
    await until(lambda: sandboxd.parts.gateway.tunnel is None)
    plain = await sandboxd.ask(b"GET http://other.test/ HTTP/1.1\r\nHost: other.test\r\n\r\n")
    inside = await sandboxd.inside("api.test:443")
    inside.send(b"GET / HTTP/1.1\r\nHost: api.test\r\n\r\n")
    for client in (plain, inside):
        answer = await client.answer()
        assert (answer.status, answer.value("X-Sallyport-Error")) == (503, "draining")
        assert answer.value("Retry-After") == "5"


async def test_a_stream_lost_before_its_answer_is_opened_in_the_next_tunnel(
    sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel, gateway: ScriptedGateway
) -> None:
    client = await sandboxd.connect("other.test:443")
    await tunnel.stream()
    await gateway.vanish()
    await gateway.listen()
    stream = await (await gateway.tunnel()).stream()
    stream.transport.write(ADMITTED)
    assert (await client.head()).startswith(b"HTTP/1.1 200 ")


async def test_a_stream_the_gateway_resets_is_not_opened_again(
    sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel
) -> None:
    client = await sandboxd.connect("other.test:443")
    (await tunnel.stream()).transport.abort()
    assert (await client.answer()).value("X-Sallyport-Error") == "overloaded"
    assert not tunnel.has_streams()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\nX: y\r\n\r\n",
        b"SSH-2.0\r\n\r\n",
        b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"x" * 5000,
    ],
)
async def test_an_answer_that_cannot_be_read_is_502(
    sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel, answer: bytes
) -> None:
    client = await sandboxd.connect("other.test:443")
    (await tunnel.stream()).transport.write(answer)
    assert (await client.answer()).value("X-Sallyport-Error") == "upstream_protocol_error"
