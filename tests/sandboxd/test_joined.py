"""Bytes between a program and its stream: cut, ended, slow."""

import pytest

from tests.support.sandboxd_in_process import SandboxdInProcess
from tests.support.scripted_gateway import ADMITTED, ScriptedGateway, ScriptedTunnel
from tests.support.until import until

pytestmark = pytest.mark.uvloop

MIB = 1024 * 1024


async def test_streams_do_not_survive_their_tunnel(
    sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel, gateway: ScriptedGateway
) -> None:
    client = await sandboxd.ask(b"GET http://other.test/ HTTP/1.1\r\nHost: other.test\r\n\r\n")
    stream = await tunnel.stream()
    # An answer that ends with its connection: an orderly end would make it look whole.
    stream.transport.write(b"HTTP/1.1 200 OK\r\n\r\nhalf of it")
    await client.until(b"half of it")
    await gateway.vanish()
    with pytest.raises(ConnectionResetError):
        await client.rest()
    await until(lambda: not sandboxd.parts.captured)


async def test_a_program_that_goes_away_ends_its_stream(sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel) -> None:
    client = await sandboxd.inside("api.test:443")
    stream = await tunnel.stream()
    stream.transport.write(ADMITTED + b"x")
    await client.exactly(1)
    client.abort()
    await stream.until_event("lost")
    await until(lambda: not sandboxd.parts.captured)


async def test_a_program_that_goes_away_in_its_handshake(sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel) -> None:
    client = await sandboxd.connect("api.test:443")
    await client.head()
    client.abort()
    await until(lambda: not sandboxd.parts.captured)


async def test_a_slow_program_slows_its_stream_and_no_other(
    sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel
) -> None:
    slow = await sandboxd.inside("api.test:443")
    stream = await tunnel.stream()
    stream.transport.write(ADMITTED)
    slow.pause()
    stream.transport.write(b"x" * 8 * MIB)
    await stream.until_event("pause")
    other = await sandboxd.inside("api.test:443")
    second = await tunnel.stream()
    second.transport.write(ADMITTED + b"quick")
    assert await other.exactly(5) == b"quick"
    assert stream.transport.get_write_buffer_size() > 4 * MIB, "all of it went into somebody's memory"
    slow.resume()
    assert len(await slow.exactly(8 * MIB)) == 8 * MIB


async def test_a_slow_gateway_slows_the_program(sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel) -> None:
    client = await sandboxd.connect("other.test:443")
    stream = await tunnel.stream()
    stream.transport.write(ADMITTED)
    await client.head()
    stream.transport.pause_reading()
    client.send(b"y" * 24 * MIB)
    (captured,) = sandboxd.parts.captured
    await until(lambda: not captured.is_reading())
    assert client.writer.transport.get_write_buffer_size() > 8 * MIB, "all of it went into somebody's memory"
    stream.received.clear()
    stream.transport.resume_reading()
    await stream.until(lambda end: len(end.received) == 24 * MIB)
