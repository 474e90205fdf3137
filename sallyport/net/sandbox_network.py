"""The network of a sandbox: loopback and nothing else, where whatever leaves is led to sockets that we hold.

The sockets are opened in that network and used outside of it, by a process that the sandbox cannot reach. No interface
leads out, so whoever may change rules and routes inside gains nothing: there is no way to change them to.
"""

import os
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from sallyport.deputy import DEPUTY_NAME
from sallyport.net.transports import BACKLOG
from sallyport.wire.netlink import (
    IPV4,
    IPV6,
    RedirectPorts,
    acknowledged,
    everything_local,
    interface_up,
    read_acknowledgements,
    redirection,
)

# Of every network, the interface that is there from the beginning.
_LOOPBACK_INDEX: Final = 1
_ANSWER_BYTES: Final = 64 * 1024
# The kernel answers while it is being asked.
_ANSWER_SECONDS: Final = 10.0
_NETFILTER: Final = 12  # NETLINK_NETFILTER
# How often ports are chosen anew where a program has taken the twin of ours.
_TRIES: Final = 16
# One deputy at a time is listened to.
_DEPUTY_BACKLOG: Final = 8


class NetworkError(Exception):
    """A network cannot be had; says what the kernel refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxNetwork:
    """A network, and the sockets in it as settings of sandboxd (`redirect`). Whoever has it closes it.

    `namespace` is the descriptor that a process enters it by.
    """

    namespace: int
    connections: tuple[int, ...]
    questions: tuple[int, ...]
    question_streams: tuple[int, ...]
    deputy: int

    @property
    def sockets(self) -> tuple[int, ...]:
        """All of them, to be handed to a sandboxd."""
        return (*self.connections, *self.questions, *self.question_streams, self.deputy)

    def close(self) -> None:
        """Let go of it: it ends with the last process that is in it."""
        for descriptor in (*self.sockets, self.namespace):
            os.close(descriptor)


def make_network() -> SandboxNetwork:
    """Make a new network; raises NetworkError. Blocks for some milliseconds."""
    return _in_a_thread(lambda: os.unshare(os.CLONE_NEWNET))


def take_network(namespace: int) -> SandboxNetwork:
    """Take the network of a container, named by a descriptor of it, which stays the caller's; raises NetworkError.

    There must be nothing but loopback in it.
    """
    return _in_a_thread(lambda: os.setns(namespace, os.CLONE_NEWNET))


def _in_a_thread(enter: Callable[[], None]) -> SandboxNetwork:
    """Enter a network and set it up, in a thread that ends with it: the others stay where they are."""
    made: list[SandboxNetwork | OSError | NetworkError] = []

    def run() -> None:
        try:
            enter()
            made.append(_set_up())
        except (OSError, NetworkError) as error:
            made.append(error)

    thread = threading.Thread(target=run, name="sandbox network")
    thread.start()
    thread.join()
    if isinstance(made[0], SandboxNetwork):
        return made[0]
    if isinstance(made[0], OSError):
        raise NetworkError(f"the kernel refuses a network: {made[0].strerror}") from made[0]
    raise made[0]


def _set_up() -> SandboxNetwork:
    interfaces = [name for _, name in socket.if_nameindex()]
    if interfaces != ["lo"]:
        raise NetworkError(f"there is more than loopback in it: {', '.join(interfaces)}")
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as routes:
        _order(routes, interface_up(_LOOPBACK_INDEX, 1), "loopback")
        for number, family in enumerate((IPV4, IPV6), 2):
            _order(routes, everything_local(family, _LOOPBACK_INDEX, number), "a route")
    with ExitStack() as opened:
        connections = _twins(socket.SOCK_STREAM, opened)
        question_streams = _twins(socket.SOCK_STREAM, opened)
        questions = _twins(socket.SOCK_DGRAM, opened)
        ports = RedirectPorts(tcp=_port(connections), dns_udp=_port(questions), dns_tcp=_port(question_streams))
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER) as rules:
            _order(rules, redirection(ports, 1), "redirection (nf_tables)")
        deputy = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        deputy.bind(DEPUTY_NAME)
        deputy.listen(_DEPUTY_BACKLOG)
        namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        opened.pop_all()
    return SandboxNetwork(
        namespace=namespace,
        connections=tuple(each.detach() for each in connections),
        questions=tuple(each.detach() for each in questions),
        question_streams=tuple(each.detach() for each in question_streams),
        deputy=deputy.detach(),
    )


def _order(kernel: socket.socket, messages: bytes, what: str) -> None:
    """Send messages and wait until each is done; raises NetworkError for the first that is refused."""
    kernel.settimeout(_ANSWER_SECONDS)
    kernel.send(messages)
    awaited = set(acknowledged(messages))
    while awaited:
        for sequence, error in read_acknowledgements(kernel.recv(_ANSWER_BYTES)):
            if error:
                raise NetworkError(f"the kernel refuses {what}: {os.strerror(error)}")
            awaited.discard(sequence)


def _twins(kind: socket.SocketKind, opened: ExitStack) -> tuple[socket.socket, socket.socket]:
    """Bind one port of loopback by IPv4 and IPv6: a redirection names a port for both."""
    for _ in range(_TRIES):
        four = opened.enter_context(socket.socket(socket.AF_INET, kind))
        four.bind(("127.0.0.1", 0))
        six = opened.enter_context(socket.socket(socket.AF_INET6, kind))
        try:
            six.bind(("::1", four.getsockname()[1]))
        except OSError:
            continue
        if kind is socket.SOCK_STREAM:
            # What comes before sandboxd does waits, and is not refused.
            four.listen(BACKLOG)
            six.listen(BACKLOG)
        return four, six
    raise NetworkError("no port is free by IPv4 and IPv6")


def _port(twins: tuple[socket.socket, socket.socket]) -> int:
    return int(twins[0].getsockname()[1])
