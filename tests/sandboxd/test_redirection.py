"""Programs that know of no proxy, in a real network, against a gateway that the test plays."""

import os
import socket
from collections.abc import AsyncIterator, Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from sallyport.net.sandbox_network import SandboxNetwork
from sallyport.wire.client_hello import ACCESS_DENIED_ALERT
from tests.sandboxd.conftest import QUICK
from tests.support.dns_questions import question
from tests.support.sandbox_network import Inside, redirect_settings, sandbox_network, within
from tests.support.sandboxd_in_process import SandboxdInProcess, in_process_sandboxd
from tests.support.scripted_gateway import ADMITTED, ScriptedGateway, ScriptedTunnel, fields_of, refusal
from tests.support.until import until

pytestmark = pytest.mark.uvloop


@pytest.fixture
def network() -> Iterator[SandboxNetwork]:
    with sandbox_network() as network:
        yield network


@pytest.fixture
async def inside(network: SandboxNetwork) -> AsyncIterator[Inside]:
    inside = Inside(network)
    yield inside
    inside.close()


@pytest.fixture
async def sandboxd(
    tmp_path: Path, gateway: ScriptedGateway, network: SandboxNetwork
) -> AsyncIterator[SandboxdInProcess]:
    # sandboxd closes what it inherits; here it inherits of nobody.
    handed = SandboxNetwork(
        namespace=network.namespace,
        connections=tuple(map(os.dup, network.connections)),
        questions=tuple(map(os.dup, network.questions)),
        question_streams=tuple(map(os.dup, network.question_streams)),
        deputy=network.deputy,
    )
    settings = {**QUICK, **redirect_settings(handed), "SALLYPORT_LIMITS_NAMES": "16"}
    async with in_process_sandboxd(tmp_path, f"ws://127.0.0.1:{gateway.port}", settings=settings) as running:
        yield running


async def test_a_name_is_what_is_connected_to(
    inside: Inside, sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel
) -> None:
    client = await inside.reach(await inside.resolve("Other.test"), 22)
    stream = await tunnel.stream()
    assert stream.received.startswith(b"CONNECT other.test:22 HTTP/1.1\r\n")
    assert fields_of(bytes(stream.received))[b"sallyport-stream"] == b"passthrough; revision=7"
    stream.transport.write(ADMITTED + b"SSH-2.0-")
    assert await client.exactly(8) == b"SSH-2.0-"  # and no 200 before it
    stream.received.clear()
    client.send(b"opaque")
    client.end()
    await stream.until_received(b"opaque")
    stream.transport.write(b"after the half-close")
    stream.transport.write_eof()
    assert await client.rest() == b"after the half-close"
    await until(lambda: not sandboxd.parts.captured)


async def test_tls_to_a_managed_host_ends_here(
    inside: Inside, sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel
) -> None:
    client = await inside.reach(await inside.resolve("api.test"), 443)
    await client.start_tls(sandboxd.trust(), "api.test")
    stream = await tunnel.stream()
    assert fields_of(bytes(stream.received))[b"sallyport-stream"] == b"intercepted; revision=7"
    stream.received.clear()
    stream.transport.write(ADMITTED)
    client.send(b"GET / HTTP/1.1\r\nHost: api.test\r\n\r\n")
    await stream.until_received(b"GET / HTTP/1.1\r\nHost: api.test\r\n\r\n")


async def test_a1_another_name_inside_tls_than_the_one_that_was_asked_for(
    inside: Inside, sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel
) -> None:
    client = await inside.reach(await inside.resolve("api.test"), 443)
    with pytest.raises(OSError, match=r"(?i)unrecognized"):
        await client.start_tls(sandboxd.trust(), "b.wild.test")


async def test_cleartext_to_a_managed_host_is_announced_as_that(
    inside: Inside, sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel
) -> None:
    client = await inside.reach(await inside.resolve("api.test"), 80)
    client.send(b"GET / HTTP/1.1\r\nHost: api.test\r\n\r\n")
    stream = await tunnel.stream()
    assert fields_of(bytes(stream.received))[b"sallyport-stream"] == b"intercepted; revision=7; cleartext"


@pytest.mark.parametrize(("address", "authority"), [("192.0.2.7", b"192.0.2.7"), ("2001:db8::7", b"[2001:db8::7]")])
async def test_h6_an_address_that_was_not_told_is_itself(
    inside: Inside, sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel, address: str, authority: bytes
) -> None:
    await inside.reach(address, 443)
    stream = await tunnel.stream()
    assert stream.received.startswith(b"CONNECT %b:443 HTTP/1.1\r\nHost: %b:443\r\n" % (authority, authority))


@pytest.mark.parametrize("address", ["198.18.0.99", "198.19.255.254"])
async def test_an_address_of_the_pool_that_stands_for_nothing_is_reset(
    inside: Inside, sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel, address: str
) -> None:
    client = await inside.reach(address, 443)
    with pytest.raises(ConnectionResetError):
        await client.rest()
    assert not tunnel.has_streams()


async def test_sandboxd_s_own_port_leads_nowhere(
    inside: Inside, sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel
) -> None:
    client = await inside.reach("127.0.0.1", sandboxd.port)
    with pytest.raises(ConnectionResetError):
        await client.rest()
    assert not tunnel.has_streams()
    assert not sandboxd.parts.captured


@pytest.mark.parametrize(
    ("first", "told"),
    [
        (b"\x16\x03\x01", ACCESS_DENIED_ALERT),
        (b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n", refusal(403, "denied_by_plan")),
    ],
)
async def test_a_refusal_is_told_in_the_program_s_protocol(
    inside: Inside, sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel, first: bytes, told: bytes
) -> None:
    client = await inside.reach(await inside.resolve("other.test"), 443)
    stream = await tunnel.stream()
    stream.transport.write(refusal(403, "denied_by_plan"))
    client.send(first)
    assert await client.rest() == told


async def test_a_refusal_of_an_unknown_protocol_is_a_reset(
    inside: Inside, sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel
) -> None:
    client = await inside.reach(await inside.resolve("other.test"), 25)
    (await tunnel.stream()).transport.write(refusal(403, "denied_by_plan"))
    client.send(b"\0binary")
    with pytest.raises(ConnectionResetError):
        await client.rest()
    await until(lambda: not sandboxd.parts.captured)


async def test_who_says_nothing_hears_nothing(
    inside: Inside, sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel
) -> None:
    client = await inside.reach(await inside.resolve("other.test"), 25)
    (await tunnel.stream()).transport.write(refusal(403, "denied_by_plan"))
    assert await client.rest() == b""


async def test_without_a_tunnel_it_is_held_and_then_refused(
    inside: Inside, sandboxd: SandboxdInProcess, gateway: ScriptedGateway
) -> None:
    client = await inside.reach(await inside.resolve("other.test"), 443)
    client.send(b"GET / HTTP/1.1\r\n\r\n")
    answer = await client.answer()
    assert (answer.status, answer.value("X-Sallyport-Error")) == (503, "plan_unavailable")


async def test_an_open_connection_keeps_its_address(
    inside: Inside, sandboxd: SandboxdInProcess, tunnel: ScriptedTunnel
) -> None:
    address = await inside.resolve("kept.test")
    await inside.reach(address, 443)
    await tunnel.stream()
    # Addresses of names asked for at the same time are told apart as long as there are any.
    others = {await inside.resolve(f"n{number}.test") for number in range(15)}
    assert len(others | {address}) == 16


async def test_questions_come_by_tcp_as_well(inside: Inside, sandboxd: SandboxdInProcess) -> None:
    answer = await inside.ask(question("api.test"), "2001:db8::53", stream=True)
    assert str(IPv4Address(answer.addresses[0][0])) == await inside.resolve("api.test")


async def test_a_question_stream_ends_with_silence_and_with_too_much(
    inside: Inside, sandboxd: SandboxdInProcess
) -> None:
    silent = await inside.reach("192.0.2.53", 53)
    assert await silent.rest() == b""
    long = await inside.reach("192.0.2.53", 53)
    long.send(b"\xff\xff")
    assert await long.rest() == b""
    await until(lambda: not sandboxd.parts.captured)


async def test_a_datagram_that_asks_nothing_is_passed_over(inside: Inside, sandboxd: SandboxdInProcess) -> None:
    def nonsense() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
            sending.sendto(b"?", ("192.0.2.53", 53))

    within(inside.network, nonsense)
    assert (await inside.resolve("api.test")).startswith("198.18.")
