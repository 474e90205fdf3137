"""A real network of a sandbox, and ways to be in it: skipped by name where this machine cannot make one."""

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address

import pytest

from sallyport.net.sandbox_network import SandboxNetwork, make_network
from tests.support.dns_questions import Answered, answered, question
from tests.support.raw_end import RawEnd
from worker.sandboxes.local import why_not


@contextlib.contextmanager
def sandbox_network() -> Iterator[SandboxNetwork]:
    """Make a network, or skip the test saying what is missing."""
    needs_isolation()
    network = make_network()
    try:
        yield network
    finally:
        network.close()


def needs_isolation() -> None:
    """Skip the test where this machine cannot hold a sandbox in."""
    reason = why_not()
    if reason is not None:
        pytest.skip(f"no sandbox can be isolated here: {reason}")


def redirect_settings(network: SandboxNetwork) -> dict[str, str]:
    """Return the settings of a sandboxd that inherits the network's sockets."""
    return {
        "SALLYPORT_REDIRECT_CONNECTIONS": ",".join(map(str, network.connections)),
        "SALLYPORT_REDIRECT_QUESTIONS": ",".join(map(str, network.questions)),
        "SALLYPORT_REDIRECT_QUESTION_STREAMS": ",".join(map(str, network.question_streams)),
    }


def within[T](network: SandboxNetwork, act: Callable[[], T]) -> T:
    """Do something in the network, in a thread that ends with it; what it makes is in there for good."""
    found: list[T | BaseException] = []

    def run() -> None:
        try:
            os.setns(network.namespace, os.CLONE_NEWNET)
            found.append(act())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]


class Inside:
    """The programs of a sandbox. Whoever has it closes it."""

    def __init__(self, network: SandboxNetwork) -> None:
        self.network = network
        self._ends: list[RawEnd] = []

    async def reach(self, address: str, port: int) -> RawEnd:
        """Connect to an address; the kernel redirects it."""
        connected = within(self.network, lambda: socket.create_connection((address, port), 5))
        connected.setblocking(False)
        end = RawEnd(*await asyncio.open_connection(sock=connected))
        self._ends.append(end)
        return end

    async def ask(self, question: bytes, server: str = "192.0.2.53", *, stream: bool = False) -> Answered:
        """Ask a name server; sandboxd may be on this loop."""
        return answered(await asyncio.to_thread(ask, self.network, question, server, stream=stream))

    async def resolve(self, name: str) -> str:
        """Ask for a name as a program does."""
        ((address, _),) = (await self.ask(question(name))).addresses
        return str(IPv4Address(address))

    def close(self) -> None:
        """Reset what is open still."""
        for end in self._ends:
            end.writer.transport.abort()


def ask(
    network: SandboxNetwork, question: bytes, server: str = "192.0.2.53", *, stream: bool = False, seconds: float = 5.0
) -> bytes:
    """Ask any name server from inside, and return what it answers; OSError."""

    def run() -> bytes:
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM) as asking:
            asking.settimeout(seconds)
            asking.connect((server, 53))
            asking.sendall(len(question).to_bytes(2, "big") + question if stream else question)
            answer = asking.recv(4096)
            return answer[2:] if stream else answer

    return within(network, run)
