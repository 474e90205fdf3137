import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_network

import pytest

from sallyport.address_policy import AddressPolicy
from sallyport.destination import Destination
from sallyport.net.dial import (
    Dialer,
    Dialled,
    connect_tcp,
    interleave_families,
)
from sallyport.net.dial_error import DialError, DialFault
from sallyport.net.own_places import OwnPlaces
from sallyport.net.proxy_connect import ProtocolFactory
from sallyport.net.resolve import Resolver
from tests.support.names import PUBLIC, Names
from tests.support.until import until

LOOPBACK = AddressPolicy(allow=(ip_network("127.0.0.0/8"), ip_network("::1/128")))
EVERYTHING = AddressPolicy(allow=(ip_network("0.0.0.0/0"), ip_network("::/0")))


class Recorder(asyncio.Protocol):
    """A protocol that keeps what it was told, in order."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.received = b""
        self.changed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.events.append("made")

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append("lost")
        self.changed.set()


class Wire:
    """Stands for the network: records every address that is really connected to."""

    def __init__(self, *unreachable: str, silent: tuple[str, ...] = ()) -> None:
        self.unreachable = unreachable
        self.silent = silent
        self.reached: list[tuple[str, int]] = []

    async def __call__(self, protocol_factory: ProtocolFactory, address: str, port: int) -> Dialled:
        self.reached.append((address, port))
        if address in self.silent:
            await asyncio.Event().wait()
        if address in self.unreachable:
            raise ConnectionRefusedError(111, "refused")
        return asyncio.Transport(), protocol_factory()


class Answerer(asyncio.Protocol):
    """A listener's side: answers what it has received so far by a function, and closes when that says so."""

    def __init__(self, answer: Callable[[bytes], bytes | None]) -> None:
        self.answer = answer
        self.received = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.data_received(b"")

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        self.received += data
        answer = self.answer(self.received)
        if answer is None:
            self.transport.close()
        elif answer:
            self.transport.write(answer)


@contextlib.asynccontextmanager
async def listening(answer: Callable[[bytes], bytes | None]) -> AsyncIterator[int]:
    server = await asyncio.get_running_loop().create_server(lambda: Answerer(answer), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        server.abort_clients()
        await server.wait_closed()


async def refused(dialer: Dialer, host: str, port: int = 443) -> DialFault:
    with pytest.raises(DialError) as caught:
        await dialer.dial(host, port, Recorder)
    assert str(caught.value) == caught.value.kind.value  # nothing of the detail in the text
    return caught.value.kind


def test_families_alternate_and_keep_their_order() -> None:
    assert interleave_families(("1::", "2::", "3::", "1.1.1.1")) == ("1::", "1.1.1.1", "2::", "3::")
    assert interleave_families(("1.1.1.1", "1::")) == ("1.1.1.1", "1::")
    assert interleave_families(("1.1.1.1",)) == ("1.1.1.1",)


# Dialer: the checks


@pytest.mark.parametrize(
    "host",
    [
        pytest.param("127.0.0.1", id="H6-loopback"),
        pytest.param("0x7f.1", id="H6-hexadecimal"),
        pytest.param("2130706433", id="H6-integer"),
        pytest.param("0177.0.0.1", id="H6-octal"),
        pytest.param("127.1", id="H6-short"),
        pytest.param("::ffff:127.0.0.1", id="H6-mapped"),
        pytest.param("64:ff9b::7f00:1", id="H6-nat64"),
        pytest.param("2002:7f00:1::", id="H6-6to4"),
        pytest.param("[::]", id="H6-unspecified"),
        pytest.param("fe80::1%eth0", id="H6-zone"),
        pytest.param("169.254.169.254", id="H7-address"),
        pytest.param("metadata.google.internal", id="H7-name"),
        pytest.param("METADATA.google.internal.", id="H7-spelling"),
        pytest.param("a.test\r\nx", id="H4-line-end"),
        pytest.param("", id="H5-empty"),
    ],
)
@pytest.mark.parametrize("through_proxy", [False, True], ids=["direct", "proxy"])
async def test_refused_before_anything_is_looked_up_or_connected(host: str, through_proxy: bool) -> None:
    names, wire = Names(proxy_test=(PUBLIC,)), Wire()
    proxy = Destination("http", "proxy.test", 3128) if through_proxy else None
    dialer = Dialer(AddressPolicy(), Resolver(names), proxy=proxy, connect_timeout_seconds=1, connect=wire)
    assert await refused(dialer, host) is DialFault.ADDRESS_REFUSED
    assert (names.asked, wire.reached) == ([], [])


@pytest.mark.parametrize(
    "answers",
    [("10.0.0.1",), (PUBLIC, "10.0.0.1"), ("10.0.0.1", PUBLIC), (PUBLIC, "::1"), (PUBLIC, "fe80::1%2"), (PUBLIC, "x")],
)
async def test_one_refused_answer_refuses_all_h8(answers: tuple[str, ...]) -> None:
    wire = Wire()
    dialer = Dialer(AddressPolicy(), Resolver(Names(a_test=answers)), connect=wire)
    assert await refused(dialer, "a.test") is DialFault.ADDRESS_REFUSED
    assert wire.reached == []


async def test_who_connects_by_itself_gets_checked_addresses_alone() -> None:
    names, wire = Names(a_test=(PUBLIC, "2606:2800:220:1::1"), b_test=(PUBLIC, "10.0.0.1")), Wire()
    dialer = Dialer(AddressPolicy(), Resolver(names), connect=wire)
    assert await dialer.addresses("A.test.", 443) == (PUBLIC, "2606:2800:220:1::1")
    assert await dialer.addresses(PUBLIC, 443) == (PUBLIC,)
    for host in ("b.test", "127.0.0.1", "metadata.google.internal"):
        with pytest.raises(DialError, match="address_refused"):
            await dialer.addresses(host, 443)
    assert wire.reached == []


async def test_more_answers_than_attempts_are_still_all_checked_h8() -> None:
    wire = Wire()
    answers = (*(f"93.184.216.{n}" for n in range(40)), "10.0.0.1")
    assert await refused(Dialer(AddressPolicy(), Resolver(Names(a_test=answers)), connect=wire), "a.test")
    assert wire.reached == []


async def test_rebinding_never_reaches_the_private_address_h8() -> None:
    """The name alternates between a public and a private answer, with nothing cached in between."""
    asked = 0
    now = 0.0

    def alternate(host: str) -> tuple[str, ...]:
        nonlocal asked
        asked += 1
        return (PUBLIC,) if asked % 2 else ("127.0.0.1",)

    wire = Wire()
    dialer = Dialer(AddressPolicy(), Resolver(alternate, now=lambda: now), connect=wire)
    for now in range(0, 10_000, 10):
        if asked % 2:
            assert await refused(dialer, "rebind.test") is DialFault.ADDRESS_REFUSED
        else:
            await dialer.dial("rebind.test", 443, Recorder)
        assert now == (asked - 1) * 10
    assert asked == 1000
    assert wire.reached == [(PUBLIC, 443)] * 500


async def test_own_listener_is_refused_even_in_an_allowed_range() -> None:
    policy = AddressPolicy(allow=LOOPBACK.allow, own=frozenset({("127.0.0.1", 3128)}))
    wire = Wire()
    dialer = Dialer(policy, Resolver(Names(me_test=("127.0.0.1",))), connect=wire)
    assert await refused(dialer, "me.test", 3128) is DialFault.ADDRESS_REFUSED
    await dialer.dial("me.test", 3129, Recorder)
    assert wire.reached == [("127.0.0.1", 3129)]


# Dialer: places of the gateway's own


CONTROL = "93.184.216.99"


def guarded(names: Names, wire: Wire, *, now: Callable[[], float] | None = None, **own: object) -> Dialer:
    """A dialer of a gateway under control.test:443, with everything allowed."""
    places = OwnPlaces([("127.0.0.1", 3128)], [("control.test", 443)])
    resolver = Resolver(names, now=now)
    return Dialer(EVERYTHING, resolver, own=places, connect_timeout_seconds=1, connect=wire, **own)  # type: ignore[arg-type]  # connect_to and proxy


@pytest.mark.parametrize("host", ["control.test", "CONTROL.test.", "alias.test", "mixed.test", CONTROL])
async def test_the_control_plane_is_refused_by_its_name_by_other_names_and_by_address(host: str) -> None:
    wire = Wire()
    names = Names(control_test=(CONTROL,), alias_test=(CONTROL,), mixed_test=(PUBLIC, CONTROL))
    assert await refused(guarded(names, wire), host) is DialFault.ADDRESS_REFUSED
    assert wire.reached == []


async def test_beside_the_control_plane_everything_is_reached() -> None:
    wire = Wire()
    dialer = guarded(Names(control_test=(CONTROL,), a_test=(PUBLIC,)), wire)
    await dialer.dial("a.test", 443, Recorder)
    await dialer.dial(CONTROL, 8443, Recorder)
    await dialer.dial("control.test", 8443, Recorder)
    assert wire.reached == [(PUBLIC, 443), (CONTROL, 8443), (CONTROL, 8443)]


async def test_a_control_plane_that_moves_is_refused_where_it_is_now() -> None:
    now, wire = 0.0, Wire()
    names = Names(control_test=(CONTROL,), a_test=(PUBLIC,))
    dialer = guarded(names, wire, now=lambda: now)
    await dialer.dial("a.test", 443, Recorder)
    names.table["control.test"] = (PUBLIC,)
    now = 10.0
    assert await refused(dialer, "a.test") is DialFault.ADDRESS_REFUSED
    del names.table["control.test"]  # its zone is away: what it led to last is still not reached
    now = 20.0
    assert await refused(dialer, "a.test") is DialFault.ADDRESS_REFUSED
    await dialer.dial(CONTROL, 443, Recorder)
    assert wire.reached == [(PUBLIC, 443), (CONTROL, 443)]


async def test_before_the_control_plane_s_name_was_ever_resolved_nothing_is_dialled_at_its_port() -> None:
    wire = Wire()
    dialer = guarded(Names(a_test=(PUBLIC,)), wire)
    assert await refused(dialer, "a.test") is DialFault.UNRESOLVED
    await dialer.dial("a.test", 80, Recorder)
    assert wire.reached == [(PUBLIC, 80)]


async def test_connect_to_leads_neither_to_a_listener_nor_to_the_control_plane() -> None:
    wire = Wire()
    connect_to = {
        "a.test:443": ("127.0.0.1", 3128),
        "b.test:443": ("control.test", 443),
        "c.test:443": ("alias.test", 443),
        "control.test:443": (PUBLIC, 443),
    }
    dialer = guarded(Names(control_test=(CONTROL,), alias_test=(CONTROL,)), wire, connect_to=connect_to)
    for host in ("a.test", "b.test", "c.test", "control.test"):
        assert await refused(dialer, host) is DialFault.ADDRESS_REFUSED
    assert wire.reached == []


@pytest.mark.parametrize(
    ("host", "port"),
    [("control.test", 443), ("127.0.0.1", 3128), ("localhost", 3128), ("0.0.0.0", 3128), (CONTROL, 443)],
)
async def test_through_an_upstream_proxy_what_is_ours_is_refused_too(host: str, port: int) -> None:
    wire = Wire()
    proxy = Destination("http", "proxy.test", 8080)
    dialer = guarded(Names(control_test=(CONTROL,), proxy_test=(PUBLIC,)), wire, proxy=proxy)
    assert await refused(dialer, host, port) is DialFault.ADDRESS_REFUSED
    assert wire.reached == []


@pytest.mark.parametrize(
    ("there", "port"), [("control.test", 443), ("metadata.google.internal", 80), ("CONTROL.test.", 443)]
)
async def test_connect_to_through_an_upstream_proxy_leads_nowhere_by_name_either(there: str, port: int) -> None:
    wire = Wire()
    proxy = Destination("http", "proxy.test", 8080)
    names = Names(control_test=(CONTROL,), proxy_test=(PUBLIC,))
    dialer = guarded(names, wire, proxy=proxy, connect_to={"a.test:443": (there, port)})
    assert await refused(dialer, "a.test") is DialFault.ADDRESS_REFUSED
    assert wire.reached == []


@pytest.mark.parametrize("host", ["localhost", "api.localhost", "ip6-loopback", "localhost.localdomain"])
async def test_an_upstream_proxy_is_not_asked_for_its_own_machine(host: str) -> None:
    wire = Wire()
    proxy = Destination("http", "proxy.test", 8080)
    dialer = Dialer(AddressPolicy(), Resolver(Names(proxy_test=(PUBLIC,))), proxy=proxy, connect=wire)
    assert await refused(dialer, host) is DialFault.ADDRESS_REFUSED
    assert wire.reached == []


async def test_an_upstream_proxy_that_is_ours_is_not_asked() -> None:
    wire = Wire()
    names = Names(control_test=(CONTROL,), proxy_test=("127.0.0.1",))
    dialer = guarded(names, wire, proxy=Destination("http", "proxy.test", 3128))
    assert await refused(dialer, "a.test", 80) is DialFault.ADDRESS_REFUSED
    assert wire.reached == []


# Dialer: connect_to


async def test_connect_to_replaces_the_address_and_is_checked_as_any_other() -> None:
    wire = Wire()
    names = Names(b_test=(PUBLIC,), inside_test=("10.0.0.1",))
    dialer = Dialer(
        AddressPolicy(),
        Resolver(names),
        connect_to={
            "API.test:443": ("93.184.216.35", 8443),
            "[2606:4700::1]:443": ("B.test", 1),
            "c.test:443": ("inside.test", 443),
            "d.test:443": ("metadata.google.internal", 80),
        },
        connect=wire,
    )
    await dialer.dial("api.test", 443, Recorder)
    await dialer.dial("2606:4700::1", 443, Recorder)
    assert wire.reached == [("93.184.216.35", 8443), (PUBLIC, 1)]
    assert await refused(dialer, "c.test") is DialFault.ADDRESS_REFUSED
    assert await refused(dialer, "d.test") is DialFault.ADDRESS_REFUSED
    assert await refused(dialer, "api.test", 444) is DialFault.UNRESOLVED  # the port is part of the key
    assert len(wire.reached) == 2


# Dialer: the attempts


async def test_attempts_go_on_to_the_next_address_up_to_the_limit() -> None:
    answers = ("2606:4700::1", "2606:4700::2", "2606:4700::3", "1.1.1.1", "1.1.1.2")
    wire = Wire(*answers)
    dialer = Dialer(AddressPolicy(), Resolver(Names(a_test=answers)), connect=wire)
    assert await refused(dialer, "a.test") is DialFault.UNREACHABLE
    assert [address for address, _ in wire.reached] == ["2606:4700::1", "1.1.1.1", "2606:4700::2", "1.1.1.2"]
    wire.unreachable = answers[:3]
    await dialer.dial("a.test", 443, Recorder)
    assert wire.reached[-1] == ("1.1.1.1", 443)


async def test_silent_address_gets_its_share_of_the_time_only() -> None:
    wire = Wire(silent=("1.1.1.1",))
    names = Names(a_test=("1.1.1.1", "1.1.1.2"), b_test=("1.1.1.1",))
    dialer = Dialer(AddressPolicy(), Resolver(names), connect_timeout_seconds=0.004, connect=wire)
    await dialer.dial("a.test", 443, Recorder)
    assert [address for address, _ in wire.reached] == ["1.1.1.1", "1.1.1.2"]
    assert await refused(dialer, "b.test") is DialFault.TIMEOUT


async def test_real_connection_has_nodelay_and_a_protocol_that_was_told() -> None:
    async with listening(lambda received: b"hello") as port:
        transport, protocol = await Dialer(LOOPBACK, Resolver()).dial("localhost", port, Recorder)
        assert isinstance(protocol, Recorder)
        await protocol.changed.wait()
        assert protocol.received == b"hello"
        assert protocol.events[0] == "made"
        assert transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert transport.get_extra_info("peername")[:2] == ("127.0.0.1", port)
        transport.abort()


async def test_a_name_that_gets_behind_the_check_is_not_looked_up_h8() -> None:
    async with listening(lambda received: b"hello") as port:
        with pytest.raises(socket.gaierror):
            await connect_tcp(Recorder, "localhost", port)


async def test_nothing_listening_is_unreachable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        assert await refused(Dialer(LOOPBACK, Resolver()), "127.0.0.1", port) is DialFault.UNREACHABLE


# Dialer: the upstream proxy


def proxied(port: int, policy: AddressPolicy | None = None, *, timeout_seconds: float = 5) -> Dialer:
    # No allow list: the proxy stands on loopback because the operator named it.
    return Dialer(
        policy or AddressPolicy(),
        Resolver(),
        proxy=Destination("http", "127.0.0.1", port),
        connect_timeout_seconds=timeout_seconds,
    )


async def test_proxy_is_asked_by_connect_and_early_bytes_come_first() -> None:
    head = (
        b"CONNECT never.resolved.invalid:443 HTTP/1.1\r\nHost: never.resolved.invalid:443\r\nSallyport-Hop: 1\r\n\r\n"
    )

    def proxy(received: bytes) -> bytes:
        if received == head:
            return b"HTTP/1.1 200 Connection established\r\nX-A: b\r\n\r\nearly "
        return received.removeprefix(head)

    async with listening(proxy) as port:
        transport, protocol = await proxied(port).dial("never.resolved.invalid", 443, Recorder)
        assert isinstance(protocol, Recorder)
        assert (protocol.events, protocol.received) == (["made"], b"early ")
        transport.write(b"late")
        while protocol.received != b"early late":
            protocol.changed.clear()
            await protocol.changed.wait()
        transport.abort()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 403 Forbidden\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 20_000,
        b"",
    ],
)
async def test_proxy_that_does_not_open_a_tunnel_is_refused(answer: bytes) -> None:
    async with listening(_once_then_close(answer)) as port:
        assert await refused(proxied(port), "a.test") is DialFault.PROXY_REFUSED


def _once_then_close(answer: bytes) -> Callable[[bytes], bytes | None]:
    answers = iter((b"", answer) if answer else (b"",))
    return lambda received: next(answers, None)


async def test_silent_proxy_times_out() -> None:
    async with listening(lambda received: b"") as port:
        assert await refused(proxied(port, timeout_seconds=0.01), "a.test") is DialFault.TIMEOUT


async def test_a_proxy_that_is_not_waited_for_is_left() -> None:
    asked = Recorder()
    server = await asyncio.get_running_loop().create_server(lambda: asked, "127.0.0.1", 0)
    try:
        async with asyncio.TaskGroup() as group:
            dial = group.create_task(proxied(server.sockets[0].getsockname()[1]).dial("a.test", 443, Recorder))
            await asked.changed.wait()
            dial.cancel()
        await until(lambda: asked.events == ["made", "lost"])
    finally:
        server.close()
        server.abort_clients()


async def test_proxy_may_not_be_our_own_listener() -> None:
    policy = AddressPolicy(own=frozenset({("127.0.0.1", 3128)}))
    assert await refused(proxied(3128, policy), "a.test") is DialFault.ADDRESS_REFUSED


def test_proxy_over_tls_is_said_to_be_unsupported() -> None:
    with pytest.raises(ValueError, match="http://, not https://"):
        Dialer(AddressPolicy(), Resolver(), proxy=Destination("https", "proxy.test", 443))


async def test_proxy_variables_of_the_environment_are_ignored_t3(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://10.0.0.1:1")
    wire = Wire()
    await Dialer(AddressPolicy(), Resolver(Names(a_test=(PUBLIC,))), connect=wire).dial("a.test", 443, Recorder)
    assert wire.reached == [(PUBLIC, 443)]


async def test_t5_without_a_descriptor_we_are_overloaded_and_try_no_further_address() -> None:
    tried: list[str] = []

    async def exhausted(protocol_factory: ProtocolFactory, address: str, port: int) -> Dialled:
        tried.append(address)
        raise OSError(errno.EMFILE, "Too many open files")

    dialer = Dialer(AddressPolicy(), Resolver(Names(a_test=("1.1.1.1", "1.0.0.1"))), connect=exhausted)
    assert await refused(dialer, "a.test") is DialFault.OVERLOADED
    assert tried == ["1.1.1.1"]
