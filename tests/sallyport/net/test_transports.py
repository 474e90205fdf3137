"""Listening: bound at once, accepting after start, and a sentence with a hint where it cannot be done."""

import asyncio
import errno
import socket
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from sallyport.net.memory import memory_pair
from sallyport.net.transports import (
    Listener,
    ListenError,
    _listen_error,
    adopt,
    bind_shared,
    is_local_address,
    is_plain_socket,
    listen,
    reset,
)
from tests.support.transports import End, TlsTrust, tcp_pair, tls_pair


class Accepted(asyncio.Protocol):
    """Counts what a listener accepts."""

    def __init__(self) -> None:
        self.transports: list[asyncio.Transport] = []
        self.changed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transports.append(cast(asyncio.Transport, transport))
        self.changed.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.transports) < count:
                self.changed.clear()
                await self.changed.wait()


async def connect(listener: Listener) -> asyncio.Transport:
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, listener.host, listener.port)
    return transport


async def test_a_listener_says_where_it_is() -> None:
    listener = await listen("127.0.0.1", 0, asyncio.Protocol)
    try:
        assert listener.host == "127.0.0.1"
        assert listener.port > 0
        assert listener.addresses == (("127.0.0.1", listener.port),)
        assert repr(listener) == f"<Listener 127.0.0.1:{listener.port}>"
    finally:
        await listener.close()


async def test_nothing_is_accepted_before_start() -> None:
    accepted = Accepted()
    listener = await listen("127.0.0.1", 0, lambda: accepted)
    probe = socket.socket()
    probe.setblocking(False)
    try:
        # The port is bound, but nobody listens on it yet.
        assert probe.connect_ex((listener.host, listener.port)) in (errno.EINPROGRESS, errno.ECONNREFUSED)
        await asyncio.sleep(0)
        assert accepted.transports == []
        await listener.start()
        transport = await connect(listener)
        await accepted.until(1)
        transport.abort()
    finally:
        probe.close()
        await listener.close()


async def check_closing() -> None:
    accepted = Accepted()
    listener = await listen("127.0.0.1", 0, lambda: accepted)
    await listener.start()
    waiting = socket.create_connection((listener.host, listener.port))
    try:
        await listener.close()
        await accepted.until(1)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((listener.host, listener.port), timeout=5)
    finally:
        waiting.close()
        for transport in accepted.transports:
            transport.abort()


async def test_t5_what_waits_in_the_kernel_is_accepted_before_closing() -> None:
    await check_closing()


@pytest.mark.uvloop
async def test_t5_what_waits_in_the_kernel_is_accepted_before_closing_on_uvloop() -> None:
    await check_closing()


async def check_taken_port() -> None:
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    host, port = taken.getsockname()
    try:
        with pytest.raises(ListenError) as caught:
            await listen(host, port, asyncio.Protocol)
    finally:
        taken.close()
    assert caught.value.message == f"127.0.0.1:{port} is taken by another process"
    assert "another port" in caught.value.hint
    assert str(caught.value) == caught.value.message


async def test_a_taken_port_says_so_and_what_to_do() -> None:
    await check_taken_port()


@pytest.mark.uvloop
async def test_a_taken_port_says_so_on_uvloop() -> None:
    await check_taken_port()


async def check_foreign_address(host: str) -> None:
    with pytest.raises(ListenError) as caught:
        await listen(host, 0, asyncio.Protocol)
    assert caught.value.message == f"{host}:0 is not an address of this machine"
    assert "`listen`" in caught.value.hint


FOREIGN = pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "not a host"])


@FOREIGN
async def test_an_address_of_another_machine_says_so(host: str) -> None:
    await check_foreign_address(host)


@FOREIGN
@pytest.mark.uvloop
async def test_an_address_of_another_machine_says_so_on_uvloop(host: str) -> None:
    await check_foreign_address(host)


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (lambda: OSError(errno.EACCES, "denied"), "by this user"),
        (lambda: OSError(errno.EADDRNOTAVAIL, "x"), "not an address"),
        (lambda: socket.gaierror(socket.EAI_NONAME, "x"), "not an address"),
        (lambda: OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
        (lambda: OSError("could not bind on any address"), "not an address"),
    ],
)
def test_every_reason_is_a_sentence(error: Callable[[], OSError], part: str) -> None:
    told = _listen_error("127.0.0.1", 80, error())
    assert part in told.message
    assert "127.0.0.1:80" in told.message
    assert told.hint


@pytest.mark.parametrize("address", ["127.0.0.1", "127.4.5.6"])
def test_h8_what_a_socket_can_be_bound_to_is_this_machine(address: str) -> None:
    assert is_local_address(address)


@pytest.mark.parametrize("address", ["192.0.2.7", "203.0.113.1", "2001:db8::7", "fe80::1"])
def test_h8_nothing_else_is_this_machine(address: str) -> None:
    assert not is_local_address(address)


def test_h8_where_it_cannot_be_found_out_an_address_counts_as_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "socket", none_left)
    assert is_local_address("192.0.2.7")


@pytest.mark.uvloop
async def test_a_reset_is_no_orderly_end() -> None:
    a, b = End(), End()
    await tcp_pair(a, b)
    reset(a.transport)
    await b.until_event("lost")
    assert isinstance(b.error, ConnectionResetError)
    assert "eof" not in b.events


# ---- sockets that several processes share


async def test_what_waits_for_one_that_ended_is_served_by_the_next() -> None:
    (kept,), (other,) = bind_shared("127.0.0.1", 0, 2)
    try:
        assert kept.getsockname() == other.getsockname()
        ended = await adopt([kept.dup().detach()], Accepted)
        await ended.start()
        for server in ended._servers:
            server.close()  # as a process that is killed: nothing is accepted first
        waiting = await connect(ended)
        accepted = Accepted()
        successor = await adopt([kept.dup().detach()], lambda: accepted)
        await successor.start()
        await accepted.until(1)
        for transport in (waiting, *accepted.transports):
            transport.abort()
        await successor.close()
    finally:
        kept.close()
        other.close()


@pytest.mark.uvloop
async def test_a_plain_socket_has_neither_tls_nor_a_tunnel_nor_memory_between(tmp_path: Path) -> None:
    plain, memory, tls = (End(), End()), (End(), End()), (End(), End())
    await tcp_pair(*plain)
    memory_pair(asyncio.get_running_loop(), *memory)
    await tls_pair(*tls, TlsTrust(tmp_path), over_tcp=True)
    assert [is_plain_socket(end.transport) for end, _ in (plain, memory, tls)] == [True, False, False]
    for end in (*plain, *memory, *tls):
        end.transport.abort()


async def test_connections_go_to_all_that_listen() -> None:
    rows = bind_shared("127.0.0.1", 0, 2)
    accepted = [Accepted(), Accepted()]
    descriptors = [row[0].detach() for row in rows]
    listeners = [await adopt(descriptors[:1], lambda: accepted[0]), await adopt(descriptors[1:], lambda: accepted[1])]
    await listeners[0].start()
    first = [await connect(listeners[0]) for _ in range(4)]
    await accepted[0].until(4)  # the other does not listen yet
    await listeners[1].start()
    more = []
    while not accepted[1].transports:
        more.append(await connect(listeners[0]))
        await asyncio.sleep(0)
        assert len(more) < 100
    for transport in (*first, *more, *accepted[0].transports, *accepted[1].transports):
        transport.abort()
    for listener in listeners:
        await listener.close()


def test_every_address_of_a_name_is_shared() -> None:
    rows = bind_shared("localhost", 0, 3)
    names = [[bound.getsockname() for bound in row] for row in rows]
    assert names[0] == names[1] == names[2]
    for row in rows:
        for bound in row:
            bound.close()


def test_sharing_is_with_nobody_else() -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=f"127.0.0.1:{port} is taken by another process"):
            bind_shared("127.0.0.1", port, 2)
    with pytest.raises(ListenError, match="is not an address of this machine"):
        bind_shared("192.0.2.1", 3128, 2)
