"""Managed hosts: where TLS ends, what is refused there, and how a refusal of the gateway arrives."""

import pytest

from sallyport.wire.client_hello import UNRECOGNIZED_NAME_ALERT
from tests.support.sandboxd_in_process import SandboxdInProcess
from tests.support.scripted_gateway import ADMITTED, ScriptedTunnel, fields_of, refusal
from tests.support.tls_by_hand import TlsByHand
from tests.support.until import until

pytestmark = pytest.mark.uvloop


async def test_tls_of_a_managed_host_ends_here(sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel) -> None:
    client = await sandboxd.inside("api.test:443")
    client.send(b"GET / HTTP/1.1\r\nHost: api.test\r\n\r\n")
    stream = await tunnel.stream()
    assert stream.received == (
        b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\nSallyport-Stream: intercepted; revision=7\r\n\r\n"
    )
    stream.received.clear()
    stream.transport.write(ADMITTED + b"early")
    await stream.until_received(b"GET / HTTP/1.1\r\nHost: api.test\r\n\r\n")
    assert await client.exactly(5) == b"early"
    stream.transport.write(b"late")
    assert await client.exactly(4) == b"late"
    stream.transport.write_eof()
    assert await client.rest() == b""
    await stream.until_event("eof")
    await until(lambda: not sandboxd.parts.captured)


async def test_a_wildcard_and_the_ports_of_the_set(sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel) -> None:
    await sandboxd.inside("a.wild.test:443")
    assert b"intercepted" in (await tunnel.stream()).received
    await sandboxd.connect("wild.test:443")
    assert b"passthrough" in (await tunnel.stream()).received
    await sandboxd.connect("api.test:8443")
    assert b"passthrough" in (await tunnel.stream()).received
    tunnel.manage(8, "api.test", ports=(0,))
    await sandboxd.managed(8)
    await sandboxd.inside("api.test:8443")
    assert b"intercepted; revision=8" in (await tunnel.stream()).received


async def test_sessions_are_resumed(sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel) -> None:
    context = sandboxd.trust()
    first = await sandboxd.inside("api.test:443", context)
    stream = await tunnel.stream()
    stream.transport.write(ADMITTED + b"x")
    await first.exactly(1)
    session = first.writer.get_extra_info("ssl_object").session
    assert session.has_ticket


async def test_a1_another_name_by_sni_gets_an_alert(
    sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel, capfd: pytest.CaptureFixture[str]
) -> None:
    client = await sandboxd.connect("api.test:443")
    await client.head()
    with pytest.raises(OSError, match="UNRECOGNIZED_NAME"):
        await client.start_tls(sandboxd.trust(), "evil.test")
    # Before a leaf is made or a stream opened: the context of a leaf would answer alike, but later.
    assert '"result": "sni_mismatch"' in capfd.readouterr().err
    assert not tunnel.has_streams()


@pytest.mark.parametrize(
    ("host", "name"), [("api.test", "192.0.2.1"), ("192.0.2.1", "192.0.2.9"), ("192.0.2.1", "::1")]
)
async def test_a1_another_address_by_sni_gets_an_alert(
    sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel, host: str, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    tunnel.manage(8, "api.test", "192.0.2.1")
    await sandboxd.managed(8)
    client = await sandboxd.connect(f"{host}:443")
    await client.head()
    # Python's TLS sends no address, so one is put in the place of a name that is as long.
    stand_in = "x" * (len(name) - 2) + ".y"
    client.send(TlsByHand(sandboxd.trust(), stand_in).hello().replace(stand_in.encode(), name.encode()))
    assert await client.gone() == UNRECOGNIZED_NAME_ALERT
    assert '"result": "sni_mismatch"' in capfd.readouterr().err
    assert not tunnel.has_streams()


async def test_a_program_without_sni_means_the_connect_s_host(
    sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel
) -> None:
    tunnel.manage(8, "192.0.2.1")
    await sandboxd.managed(8)
    # By TLS an address is never named.
    await sandboxd.inside("192.0.2.1:443")
    assert b"CONNECT 192.0.2.1:443 " in (await tunnel.stream()).received


async def test_http2_alone_gets_an_alert(sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel) -> None:
    client = await sandboxd.connect("api.test:443")
    await client.head()
    with pytest.raises(OSError, match="no application protocol"):
        await client.start_tls(sandboxd.trust(alpn=("h2",)), "api.test")
    assert not tunnel.has_streams()


async def test_a_hello_that_is_none_gets_an_alert(sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel) -> None:
    client = await sandboxd.connect("api.test:443")
    await client.head()
    client.send(b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00")
    assert await client.gone() == bytes((21, 3, 3, 0, 2, 2, 40))
    for _ in range(3):  # on a connection that was closed at once the first brings a reset, and the next one fails
        client.send(bytes(16))
        await client.flush()
        other = await sandboxd.connect("api.test:443")
        await other.head()
    assert not client.writer.is_closing()


async def test_a1_cleartext_inside_a_connect_is_announced(sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel) -> None:
    client = await sandboxd.connect("api.test:80")
    await client.head()
    client.send(b"GET / HTTP/1.1\r\nHost: api.test\r\n\r\n")
    stream = await tunnel.stream()
    assert fields_of(bytes(stream.received))[b"sallyport-stream"] == b"intercepted; revision=7; cleartext"
    stream.received.clear()
    stream.transport.write(ADMITTED)
    await stream.until_received(b"GET / HTTP/1.1\r\nHost: api.test\r\n\r\n")
    stream.transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert (await client.answer()).status == 204


@pytest.mark.parametrize("asks_first", [True, False])
async def test_a_refusal_arrives_inside_tls(
    sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel, asks_first: bool
) -> None:
    client = await sandboxd.inside("api.test:443")
    request = b"POST / HTTP/1.1\r\nHost: api.test\r\nContent-Length: 6\r\n\r\nsecret"
    if asks_first:
        client.send(request)
    stream = await tunnel.stream()
    stream.received.clear()
    stream.transport.write(refusal(403, "denied_by_plan", b'{"code":"denied_by_plan"}'))
    if not asks_first:
        # An answer to nothing is taken for a broken connection by many programs.
        assert await client.is_quiet()
        client.send(request)
    answer = await client.answer()
    assert (answer.status, answer.body) == (403, b'{"code":"denied_by_plan"}')
    assert await client.rest() == b""
    assert b"secret" not in stream.received
