"""A real network with nothing but loopback: what leaves it, and what comes to the sockets in it."""

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from sallyport.net.sandbox_network import NetworkError, SandboxNetwork, take_network
from tests.support.sandbox_network import sandbox_network, within


@pytest.fixture
def network() -> Iterator[SandboxNetwork]:
    with sandbox_network() as network:
        yield network


def accept(descriptor: int) -> socket.socket:
    """Accept on a socket of the network, from outside of it."""
    with socket.socket(fileno=os.dup(descriptor)) as listening:
        listening.settimeout(5)
        return listening.accept()[0]


def test_there_is_loopback_and_nothing_else(network: SandboxNetwork) -> None:
    assert within(network, socket.if_nameindex) == [(1, "lo")]
    assert len(socket.if_nameindex()) > 1 or os.path.exists("/sys/class/net/lo")


@pytest.mark.parametrize(
    ("address", "port"),
    [("192.0.2.34", 443), ("198.51.100.1", 22), ("203.0.113.254", 80), ("2001:db8::1", 443), ("2001:db8:1::1", 9)],
)
def test_every_connection_comes_to_the_sockets(network: SandboxNetwork, address: str, port: int) -> None:
    inside = within(network, lambda: socket.create_connection((address, port), 5))
    with inside, accept(network.connections[":" in address]) as outside:
        outside.sendall(b"from outside")
        assert inside.recv(64) == b"from outside"
        assert inside.getpeername()[:2] == (address, port)


def test_loopback_is_the_sandbox_s_own(network: SandboxNetwork) -> None:
    def meet() -> bytes:
        with (
            socket.create_server(("127.0.0.1", 0)) as listening,
            socket.create_connection(listening.getsockname(), 5) as one,
            listening.accept()[0] as other,
        ):
            one.sendall(b"inside")
            return other.recv(64)

    assert within(network, meet) == b"inside"


@pytest.mark.parametrize("server", ["192.0.2.53", "127.0.0.53", "2001:db8::53", "::1"])
def test_every_question_comes_to_the_sockets(network: SandboxNetwork, server: str) -> None:
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with within(network, lambda: socket.socket(family, socket.SOCK_DGRAM)) as asking:
        asking.settimeout(5)
        asking.sendto(b"question", (server, 53))
        with socket.socket(fileno=os.dup(network.questions[":" in server])) as answering:
            answering.settimeout(5)
            asked, who = answering.recvfrom(64)
            answering.sendto(b"answer to " + asked, who)
        answer, where = asking.recvfrom(64)
        assert (answer, where[:2]) == (b"answer to question", (server, 53))


@pytest.mark.parametrize("address", ["192.0.2.53", "2001:db8::1"])
def test_other_datagrams_are_refused(network: SandboxNetwork, address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    inside = within(network, lambda: socket.socket(family, socket.SOCK_DGRAM))
    with inside, pytest.raises(OSError, match=os.strerror(errno.EPERM)):
        inside.sendto(b"x", (address, 443))


def test_a_network_is_taken_once(network: SandboxNetwork) -> None:
    with pytest.raises(NetworkError, match="the kernel refuses a route: File exists"):
        take_network(network.namespace)


def test_what_is_no_network_cannot_be_taken() -> None:
    with open("/dev/null", "rb") as other, pytest.raises(NetworkError, match="refuses a network"):
        take_network(other.fileno())


def test_a_network_with_a_way_out_is_not_taken() -> None:
    if socket.if_nameindex() == [(1, "lo")]:
        pytest.skip("this machine has nothing but loopback itself")
    here = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        with pytest.raises(NetworkError, match="more than loopback"):
            take_network(here)
    finally:
        os.close(here)
