import asyncio
import re
import socket
import ssl
import weakref
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.certificates import write_origin_files
from sallyport.net.bulk_turns import BulkTurns
from sallyport.net.memory import MemoryTransport, memory_pair
from sallyport.net.tls import ExposedKeyError, TlsTransport, client_context, server_context, unread_bytes
from tests.support.key_updates import KeyUpdatingClient
from tests.support.spent_turns import SpentTurns
from tests.support.transports import End, Handshake, TlsTrust, tls_pair

TLS_VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
BLOCK = bytes(range(256)) * 256  # 64 KiB


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> TlsTrust:
    return TlsTrust(Path(tmp_path_factory.mktemp("ca")) / "ca")


class Peer(asyncio.Protocol):
    """The other end, on the standard library's SSLObject alone; does only what a test tells it, byte by byte."""

    def __init__(self, context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None = None) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = context.wrap_bio(self.incoming, self.outgoing, server_side, server_hostname)
        self.changed = asyncio.Event()
        self.lost = False
        self.lower: MemoryTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.lower = cast("MemoryTransport", transport)

    def data_received(self, data: bytes) -> None:
        self.incoming.write(data)
        self.changed.set()

    def eof_received(self) -> bool:
        self.incoming.write_eof()
        self.changed.set()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.incoming.write_eof()
        self.changed.set()

    def sealed(self, *parts: bytes) -> bytes:
        """One record per part, not sent yet."""
        for part in parts:
            self.object.write(part)
        return self.outgoing.read()

    def close_notify(self) -> bytes:
        with pytest.raises((ssl.SSLWantReadError, ssl.SSLError)):
            self.object.unwrap()
        return self.outgoing.read()

    def send(self, data: bytes) -> None:
        assert self.lower is not None
        self.lower.write(data)

    async def finish[Result](self, step: Callable[[], Result]) -> Result:
        """Repeat a step until it no longer wants bytes; what it writes is sent."""
        async with asyncio.timeout(5):
            while True:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    self.changed.clear()
                finally:
                    if self.outgoing.pending:
                        self.send(self.outgoing.read())
                await self.changed.wait()


async def joined(
    trust: TlsTrust,
    upper: End,
    *,
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    chunk_bytes: int = 1 << 18,
    turns: BulkTurns | None = None,
) -> Peer:
    """Our server side under `upper`, with a finished handshake to a client that the test drives."""
    ours = Handshake(upper, trust.server, server_side=True, turns=turns)
    peer = Peer(trust.client(version), server_side=False, server_hostname=trust.HOST)
    memory_pair(asyncio.get_running_loop(), ours.lower, peer, chunk_bytes=chunk_bytes)
    await peer.finish(peer.object.do_handshake)
    await upper.until_event("made")
    return peer


# Handshake


async def test_handshake_tells_the_upper_protocol_first_and_the_caller_once(trust: TlsTrust) -> None:
    order: list[list[str]] = []
    a, b = End(), End()
    client = Handshake(
        a,
        trust.client(),
        server_side=False,
        server_hostname=trust.HOST,
        on_handshake=lambda: order.append(list(a.events)),
    )
    server = Handshake(b, trust.server, server_side=True)
    memory_pair(asyncio.get_running_loop(), client.lower, server.lower, chunk_bytes=1)
    await client.done.wait()
    await server.done.wait()
    assert order == [["made"]]
    assert b.transport.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
    assert b.transport.get_extra_info("sslcontext") is trust.server
    assert b.transport.get_extra_info("peername") == ("memory", 0)
    assert b.transport.get_extra_info("nothing", 7) == 7
    a.transport.close()
    await b.until_event("lost")
    assert (client.calls, server.calls) == ([None], [None])


async def test_bytes_read_before_the_layer_was_made_are_its_first(trust: TlsTrust) -> None:
    """A listener has read the ClientHello already when it decides to end TLS here."""
    upper = End()
    peer = Peer(trust.client(), server_side=False, server_hostname=trust.HOST)
    early = End()
    lower, _ = memory_pair(asyncio.get_running_loop(), early, peer)
    with pytest.raises(ssl.SSLWantReadError):
        peer.object.do_handshake()
    hello = peer.outgoing.read()
    outcomes: list[Exception | None] = []
    tls = TlsTransport(lower, upper, trust.server, server_side=True, on_handshake=outcomes.append)
    tls.start(hello)
    await peer.finish(peer.object.do_handshake)
    peer.send(peer.sealed(b"first"))
    await upper.until_received(b"first")
    assert outcomes == [None]
    assert early.received == b""
    assert repr(tls).startswith("<TlsTransport open over <MemoryTransport open")
    tls.abort()


async def handshake_error(client_context: ssl.SSLContext, server_context: ssl.SSLContext, host: str) -> Exception:
    """What our client says of a handshake that fails; its upper protocol must not have heard of it."""
    a, b = End(), End()
    client = Handshake(a, client_context, server_side=False, server_hostname=host)
    server = Handshake(b, server_context, server_side=True)
    memory_pair(asyncio.get_running_loop(), client.lower, server.lower)
    async with asyncio.timeout(5):
        await client.done.wait()
        await server.done.wait()
    if "made" in b.events:  # with TLS 1.3 the server is done before it learns what the client thinks of it
        await b.until_event("lost")
        assert isinstance(b.error, ssl.SSLError)
    assert a.events == []
    [error] = client.calls
    assert error is not None
    return error


async def test_upstream_without_a_trusted_chain_is_refused_a4(trust: TlsTrust) -> None:
    error = await handshake_error(client_context(None), trust.server, trust.HOST)
    assert isinstance(error, ssl.SSLCertVerificationError)


async def test_upstream_with_another_name_is_refused_a4(trust: TlsTrust, tmp_path: Path) -> None:
    # An address: no server name is sent, so that it is the client that finds out.
    error = await handshake_error(trust.client(), trust.server, "192.0.2.1")
    assert isinstance(error, ssl.SSLCertVerificationError)


async def test_old_protocol_version_is_refused(trust: TlsTrust) -> None:
    context = trust.client()
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    assert isinstance(await handshake_error(context, trust.server, trust.HOST), ssl.SSLError)


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b"\x15\x03\x03\0\2\2\x28"]
)
async def test_garbage_instead_of_a_handshake_fails_it_once(trust: TlsTrust, garbage: bytes) -> None:
    upper, other = End(), End()
    ours = Handshake(upper, trust.server, server_side=True)
    memory_pair(asyncio.get_running_loop(), ours.lower, other)
    other.transport.write(garbage)
    await other.until_event("lost")
    assert [type(error) for error in ours.calls] == [ssl.SSLError]
    assert upper.events == []


async def test_endless_handshake_is_cut_off(trust: TlsTrust) -> None:
    upper, other = End(), End(keeps_half_open=True)
    ours = Handshake(upper, trust.server, server_side=True)
    memory_pair(asyncio.get_running_loop(), ours.lower, other)
    message = b"\x01\x03\xff\xff" + bytes(300_000)  # a ClientHello of 262,143 bytes
    for start in range(0, len(message), 16_000):
        piece = message[start : start + 16_000]
        other.transport.write(b"\x16\x03\x01" + len(piece).to_bytes(2) + piece)
    await ours.done.wait()
    assert isinstance(ours.calls[0], ssl.SSLError)
    await other.until_event("lost")


@pytest.mark.parametrize("ending", ["eof", "reset", "abort", "close"])
async def test_handshake_that_ends_half_way_is_told_once(trust: TlsTrust, ending: str) -> None:
    upper, other = End(), End()
    ours = Handshake(upper, trust.client(), server_side=False, server_hostname=trust.HOST)
    memory_pair(asyncio.get_running_loop(), ours.lower, other)
    await other.until(lambda end: bool(end.received))
    assert ours.tls is not None
    if ending == "eof":
        other.transport.write_eof()
    elif ending == "reset":
        other.transport.abort()
    elif ending == "abort":
        ours.tls.abort()
    else:
        ours.tls.close()
    await ours.done.wait()
    await other.until_event("lost")
    assert [isinstance(error, OSError) for error in ours.calls] == [True]
    assert upper.events == []


async def test_layer_over_a_transport_that_is_closing_fails_at_once(trust: TlsTrust) -> None:
    lower, _ = memory_pair(asyncio.get_running_loop(), End(), End())
    lower.close()
    outcomes: list[Exception | None] = []
    TlsTransport(lower, End(), trust.server, server_side=True, on_handshake=outcomes.append).start()
    assert [type(outcome) for outcome in outcomes] == [ConnectionAbortedError]
    await asyncio.sleep(0.001)
    assert len(outcomes) == 1


@TLS_VERSIONS
async def test_session_is_reused(trust: TlsTrust, version: ssl.TLSVersion) -> None:
    context = trust.client(version)
    session = None
    for reused in (False, True):
        a, b = End(), End()
        client = Handshake(a, context, server_side=False, server_hostname=trust.HOST, session=session)
        server = Handshake(b, trust.server, server_side=True)
        memory_pair(asyncio.get_running_loop(), client.lower, server.lower)
        await client.done.wait()
        await server.done.wait()
        b.transport.write(b"x")  # behind the tickets of TLS 1.3
        await a.until_received(b"x")
        assert client.tls is not None
        session = client.tls.ssl_session
        # The server's one certificate, counted as what it takes; a session that is offered has lost it.
        assert client.tls.peer_chain_bytes == (0 if reused else 2048)
        assert client.tls.get_extra_info("ssl_object").session_reused is reused
        a.transport.close()
        await b.until_event("lost")


# Reading


@TLS_VERSIONS
@pytest.mark.parametrize("chunk_bytes", [1, 7, 1 << 18])
async def test_plaintext_does_not_depend_on_how_the_bytes_arrive(
    trust: TlsTrust, version: ssl.TLSVersion, chunk_bytes: int
) -> None:
    upper = End()
    peer = await joined(trust, upper, version=version, chunk_bytes=chunk_bytes)
    peer.send(peer.sealed(b"one", b"two" * 100, b"three") + peer.close_notify())
    await upper.until_event("lost")
    assert upper.received == b"one" + b"two" * 100 + b"three"
    assert upper.events == ["made", "eof", "lost"]
    assert upper.error is None


async def test_records_that_arrive_together_go_up_together(trust: TlsTrust) -> None:
    upper = End()
    peer = await joined(trust, upper)
    peer.send(peer.sealed(*(b"x" * 10_000 for _ in range(5))))
    await upper.until(lambda end: len(end.received) == 50_000)
    assert upper.deliveries == 1
    upper.transport.abort()


class KeyUpdatingPeer(asyncio.Protocol):
    """The other end, with key updates; it takes what comes, or nothing."""

    def __init__(self) -> None:
        self.client = KeyUpdatingClient()
        self.lower: MemoryTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.lower = cast("MemoryTransport", transport)
        self.send(self.client.shake())

    def data_received(self, data: bytes) -> None:
        self.client.feed(data)
        if not self.client.is_up:
            self.send(self.client.shake())

    def send(self, data: bytes) -> None:
        assert self.lower is not None
        self.lower.write(data)


@pytest.fixture
async def updating() -> AsyncIterator[KeyUpdatingPeer]:
    peer = KeyUpdatingPeer()
    yield peer
    peer.client.close()


async def joined_to(peer: KeyUpdatingPeer, trust: TlsTrust, upper: End, turns: BulkTurns | None = None) -> None:
    ours = Handshake(upper, trust.server, server_side=True, turns=turns)
    memory_pair(asyncio.get_running_loop(), ours.lower, peer, chunk_bytes=1 << 18)
    await upper.until_event("made")


@pytest.mark.parametrize("pieces", [1, 4, 150], ids=["one read", "four", "of a few hundred bytes"])
async def test_t6_a_peer_that_sends_record_after_record_without_data_is_cut_off(
    trust: TlsTrust, updating: KeyUpdatingPeer, pieces: int
) -> None:
    upper = End()
    await joined_to(updating, trust, upper)
    flood = updating.client.key_updates(2000)
    size = len(flood) // pieces
    for start in range(0, len(flood), size):
        updating.send(flood[start : start + size])
        await asyncio.sleep(0)
    await upper.until_event("lost")
    assert "without data" in str(upper.error)
    assert upper.received == b""


async def test_t6_key_updates_among_data_are_answered(trust: TlsTrust, updating: KeyUpdatingPeer) -> None:
    upper = End()
    await joined_to(updating, trust, upper)
    for _ in range(20):
        updating.send(updating.client.key_updates(500) + updating.client.sealed(b"x" * 1000))
    await upper.until(lambda end: len(end.received) == 20_000)
    assert "lost" not in upper.events
    upper.transport.abort()


async def test_t6_a_byte_of_data_makes_good_for_one_record_and_not_for_a_thousand(
    trust: TlsTrust, updating: KeyUpdatingPeer
) -> None:
    upper = End()
    await joined_to(updating, trust, upper)
    flood = b"".join(updating.client.key_updates(10) + updating.client.sealed(b"x") for _ in range(200))
    updating.send(flood)
    await upper.until_event("lost")
    assert "without data" in str(upper.error)


async def test_t6_a_peer_that_takes_nothing_and_has_itself_answered_is_cut_off(
    trust: TlsTrust, updating: KeyUpdatingPeer
) -> None:
    """However much data comes between: our answers would be kept without end."""
    upper = End()
    await joined_to(updating, trust, upper)
    upper.transport.set_write_buffer_limits(high=64 * 1024)
    assert updating.lower is not None
    updating.lower.pause_reading()
    upper.transport.write(BLOCK * 8)
    await upper.until_event("pause")
    for _ in range(100):
        updating.send(updating.client.key_updates(2) + updating.client.sealed(b"x" * 100))
        await asyncio.sleep(0)
    await upper.until_event("lost")
    assert "takes no answers" in str(upper.error)


async def test_a_peer_that_has_itself_answered_and_reads_again_goes_on(
    trust: TlsTrust, updating: KeyUpdatingPeer
) -> None:
    upper = End()
    await joined_to(updating, trust, upper)
    upper.transport.set_write_buffer_limits(high=64 * 1024)
    assert updating.lower is not None
    for at in range(1, 4):
        updating.lower.pause_reading()
        upper.transport.write(BLOCK * 8)
        await upper.until(lambda end, at=at: end.events.count("pause") == at)  # type: ignore[misc]
        updating.send(updating.client.key_updates(100) + updating.client.sealed(b"x" * 100))
        await upper.until(lambda end, at=at: len(end.received) == at * 100)  # type: ignore[misc]
        updating.lower.resume_reading()
        await upper.until(lambda end, at=at: end.events.count("resume") == at)  # type: ignore[misc]
    assert "lost" not in upper.events
    upper.transport.abort()


async def passed() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_t6_what_arrives_when_a_turn_is_spent_waits_for_a_later_one(trust: TlsTrust) -> None:
    upper, loop = End(), SpentTurns()
    peer = await joined(trust, upper, turns=loop.turns)
    loop.spend()
    peer.send(peer.sealed(BLOCK) + peer.close_notify())
    await passed()
    assert upper.received == b""
    assert loop.turns.waiting == 1
    assert unread_bytes(upper.transport) > len(BLOCK)
    loop.pass_on()
    await upper.until_event("lost")
    assert upper.received == BLOCK
    assert upper.events == ["made", "eof", "lost"]


async def test_t6_who_waits_for_a_turn_and_pauses_is_delivered_nothing_before_both_are_over(trust: TlsTrust) -> None:
    upper, loop = End(), SpentTurns()
    peer = await joined(trust, upper, turns=loop.turns)
    loop.spend()
    peer.send(peer.sealed(BLOCK))
    await passed()
    upper.transport.pause_reading()
    loop.pass_on()
    await passed()
    assert upper.received == b""
    loop.spend()
    upper.transport.resume_reading()
    await passed()
    assert upper.received == b""  # the rest of a long read is decrypted by turns as well
    upper.transport.pause_reading()
    upper.transport.resume_reading()
    await passed()
    assert upper.received == b""
    loop.pass_on()
    await upper.until_received(BLOCK)
    upper.transport.abort()


async def test_t6_who_is_gone_when_its_turn_comes_hears_nothing_of_it(trust: TlsTrust) -> None:
    upper, loop = End(), SpentTurns()
    peer = await joined(trust, upper, turns=loop.turns)
    loop.spend()
    peer.send(peer.sealed(BLOCK))
    await passed()
    upper.transport.abort()
    await upper.until_event("lost")
    loop.pass_on()
    await passed()
    assert upper.received == b""
    assert loop.turns.waiting == 0


async def test_t6_one_that_is_gone_already_waits_for_no_turn(trust: TlsTrust) -> None:
    upper, loop = End(), SpentTurns()
    await joined(trust, upper, turns=loop.turns)
    transport = cast("TlsTransport", upper.transport)
    assert transport.turn_owner is transport
    transport.abort()
    assert not transport.await_turn(0)
    await upper.until_event("lost")


async def test_pause_holds_back_plaintext_that_is_here_already(trust: TlsTrust) -> None:
    upper = End(on_data=lambda end: end.transport.pause_reading())
    peer = await joined(trust, upper)
    peer.send(peer.sealed(BLOCK, BLOCK, BLOCK, BLOCK, BLOCK, BLOCK) + peer.close_notify())
    await upper.until_delivery(1)
    for _ in range(20):
        await asyncio.sleep(0)
    assert upper.deliveries == 1
    assert "eof" not in upper.events
    deliveries = 1
    while len(upper.received) < len(BLOCK) * 6:
        upper.transport.resume_reading()
        upper.transport.pause_reading()  # changes nothing for the resume that follows
        upper.transport.resume_reading()
        deliveries += 1
        await upper.until_delivery(deliveries)
        assert upper.deliveries == deliveries
    assert upper.received == BLOCK * 6
    assert "eof" not in upper.events
    upper.transport.resume_reading()
    await upper.until_event("lost")
    assert upper.events == ["made", "eof", "lost"]


async def test_what_waits_of_a_long_read_is_told_and_is_not_in_openssl(trust: TlsTrust) -> None:
    """Its memory never shrinks, so each of a thousand links would keep its longest read for good."""
    told: list[int] = []

    def pause(end: End) -> None:
        end.transport.pause_reading()
        told.append(unread_bytes(end.transport))

    upper = End(on_data=pause)
    peer = await joined(trust, upper)
    peer.send(peer.sealed(*[BLOCK] * 6))
    await upper.until_delivery(1)
    tls = upper.transport
    assert isinstance(tls, TlsTransport)
    assert told == [unread_bytes(tls)]
    assert told[0] >= 3 * len(BLOCK)
    assert tls._incoming.pending < len(BLOCK)
    while len(upper.received) < len(BLOCK) * 6:
        tls.resume_reading()
        await upper.until_delivery(len(told) + 1)
    assert upper.received == BLOCK * 6
    assert told[-1] == unread_bytes(tls) == unread_bytes(tls._lower) == 0
    tls.abort()


async def test_truncation_while_paused_arrives_after_the_bytes_before_it(trust: TlsTrust) -> None:
    upper = End(on_data=lambda end: end.transport.pause_reading())
    peer = await joined(trust, upper)
    peer.send(peer.sealed(*[BLOCK] * 6))
    assert peer.lower is not None
    peer.lower.write_eof()
    deliveries = 1
    while len(upper.received) < len(BLOCK) * 6:
        await upper.until_delivery(deliveries)
        upper.transport.resume_reading()
        deliveries += 1
    upper.transport.resume_reading()
    await upper.until_event("lost")
    assert upper.received == BLOCK * 6
    assert isinstance(upper.error, ssl.SSLEOFError)
    assert "eof" not in upper.events


@TLS_VERSIONS
async def test_truncation_is_not_an_end(trust: TlsTrust, version: ssl.TLSVersion) -> None:
    upper = End(keeps_half_open=True)
    peer = await joined(trust, upper, version=version)
    peer.send(peer.sealed(b"part"))
    assert peer.lower is not None
    peer.lower.write_eof()
    await upper.until_event("lost")
    assert upper.received == b"part"
    assert upper.events == ["made", "lost"]
    assert isinstance(upper.error, ssl.SSLEOFError)


async def test_damaged_record_ends_the_stream_with_an_alert(trust: TlsTrust) -> None:
    upper = End()
    peer = await joined(trust, upper)
    record = bytearray(peer.sealed(b"secret"))
    record[-1] ^= 1
    peer.send(bytes(record))
    await upper.until_event("lost")
    assert isinstance(upper.error, ssl.SSLError)
    assert upper.received == b""
    with pytest.raises(ssl.SSLError, match="bad record mac"):
        await peer.finish(lambda: peer.object.read(1))


async def test_bytes_after_close_notify_are_dropped(trust: TlsTrust) -> None:
    upper = End(keeps_half_open=True)
    peer = await joined(trust, upper)
    peer.send(peer.close_notify())
    await upper.until_event("eof")
    for _ in range(10):
        peer.send(b"x" * 100_000)
    upper.transport.write(b"answer")
    assert await peer.finish(lambda: peer.object.read(100)) == b"answer"
    assert upper.received == b""
    assert upper.events == ["made", "eof"]
    upper.transport.close()
    await upper.until_event("lost")


async def test_one_that_has_ended_holds_nothing_of_openssl(trust: TlsTrust) -> None:
    upper = End()
    peer = await joined(trust, upper)
    tls = upper.transport
    ended = weakref.ref(tls.get_extra_info("ssl_object"))
    assert ended() is not None
    peer.send(peer.close_notify())
    assert peer.lower is not None
    peer.lower.close()
    await upper.until(lambda end: "lost" in str(end.events))
    await asyncio.sleep(0)
    assert ended() is None
    # Whoever still asks is told what there is.
    assert isinstance(tls, TlsTransport)
    assert (tls.ssl_session, tls.is_closing()) == (None, True)
    tls.close()
    tls.abort()


async def test_reset_below_arrives_as_an_error(trust: TlsTrust) -> None:
    upper = End()
    peer = await joined(trust, upper)
    assert peer.lower is not None
    peer.lower.abort()
    await upper.until_event("lost")
    assert isinstance(upper.error, ConnectionResetError)


# Writing


class CountingTransport(MemoryTransport):
    """Counts the writes that reach it."""

    writes = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes += 1
        super().write(data)


async def test_writes_made_while_receiving_leave_in_one_piece(trust: TlsTrust) -> None:
    def answer(end: End) -> None:
        for _ in range(3):
            end.transport.write(b"answer")

    loop = asyncio.get_running_loop()
    upper = End(on_data=answer)
    peer = Peer(trust.client(), server_side=False, server_hostname=trust.HOST)
    lower, far = CountingTransport(loop, End(), 1 << 18), MemoryTransport(loop, peer, 1 << 18)
    lower.join(far)
    far.join(lower)
    peer.connection_made(far)
    TlsTransport(lower, upper, trust.server, server_side=True, on_handshake=lambda error: None).start()
    await peer.finish(peer.object.do_handshake)
    await upper.until_event("made")
    before = lower.writes
    peer.send(peer.sealed(b"question"))
    await upper.until_received(b"question")
    assert lower.writes == before + 1
    assert await peer.finish(lambda: peer.object.read(6)) == b"answer"
    upper.transport.abort()


@TLS_VERSIONS
async def test_write_eof_keeps_what_was_not_yet_read(trust: TlsTrust, version: ssl.TLSVersion) -> None:
    """Sending close_notify looks for the peer's own and must not eat the data in front of it."""
    upper = End(keeps_half_open=True, on_data=lambda end: end.transport.pause_reading())
    peer = await joined(trust, upper, version=version)
    peer.send(peer.sealed(*[BLOCK] * 6))
    await upper.until_delivery(1)
    upper.transport.write(b"last words")
    upper.transport.write_eof()
    assert await peer.finish(lambda: peer.object.read(100)) == b"last words"
    assert await peer.finish(lambda: peer.object.read(100)) == b""
    peer.send(peer.sealed(b"still"))
    upper.on_data = None
    upper.transport.resume_reading()
    await upper.until_received(BLOCK * 6 + b"still")
    upper.transport.close()
    await upper.until_event("lost")


async def test_what_was_under_way_when_an_end_was_written_is_delivered_whole(trust: TlsTrust) -> None:
    """A pause does not call back what a lower transport is about to hand over, before our end and behind it."""
    upper = End(keeps_half_open=True)
    peer = await joined(trust, upper)
    tls = cast(TlsTransport, upper.transport)
    tls.pause_reading()
    tls.data_received(peer.sealed(b"before"))
    tls.write_eof()
    tls.data_received(peer.sealed(b" and", b" behind"))
    tls.resume_reading()
    await upper.until_received(b"before and behind")
    tls.abort()


@pytest.mark.parametrize("size", [16 * 1024 - 1, 16 * 1024, 16 * 1024 + 1, 32 * 1024])
async def test_records_as_long_as_they_may_be_are_delivered_whole(trust: TlsTrust, size: int) -> None:
    upper = End()
    peer = await joined(trust, upper)
    for _ in range(2):
        cast(TlsTransport, upper.transport).data_received(peer.sealed(b"x" * size))
        await upper.until_received(b"x" * size)
        upper.received.clear()
    upper.transport.abort()


async def test_write_eof_from_inside_data_received(trust: TlsTrust) -> None:
    upper = End(keeps_half_open=True, on_data=lambda end: end.transport.write_eof())
    peer = await joined(trust, upper)
    peer.send(peer.sealed(*[BLOCK] * 6) + peer.close_notify())
    await upper.until_event("eof")
    assert upper.received == BLOCK * 6
    with pytest.raises(ssl.SSLZeroReturnError):  # close_notify came, and nothing before it
        await peer.finish(lambda: peer.object.read(1))
    upper.transport.close()
    await upper.until_event("lost")
    assert upper.error is None


async def test_pause_that_began_before_the_handshake_is_passed_on(trust: TlsTrust) -> None:
    upper = End()
    ours = Handshake(upper, trust.server, server_side=True)
    peer = Peer(trust.client(), server_side=False, server_hostname=trust.HOST)
    lower, _ = memory_pair(asyncio.get_running_loop(), ours.lower, peer)
    lower.set_write_buffer_limits(high=10, low=5)
    await peer.finish(peer.object.do_handshake)
    await upper.until_event("resume")
    assert upper.events == ["made", "pause", "resume"]
    upper.transport.abort()


async def test_failure_with_a_blocked_writer_does_not_wait_for_it(trust: TlsTrust) -> None:
    upper = End()
    peer = await joined(trust, upper)
    assert peer.lower is not None
    peer.lower.pause_reading()
    upper.transport.write(BLOCK * 4)
    peer.send(b"\x17\x03\x03\x00\x05wrong")
    await upper.until_event("lost")
    assert isinstance(upper.error, ssl.SSLError)


async def test_close_waits_for_the_peer_to_end_but_not_for_ever(
    trust: TlsTrust, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sallyport.net.tls._LINGER_SECONDS", 0.001)
    upper = End()
    peer = await joined(trust, upper)
    assert peer.lower is not None
    ends = End(keeps_half_open=True)
    peer.lower.set_protocol(ends)
    upper.transport.close()
    await ends.until_event("eof")
    peer.lower.write(b"x" * 1_000_000)  # still under way; read into nothing
    await upper.until_event("lost")
    assert upper.received == b""
    assert upper.error is None


# Any bytes


@settings(max_examples=40, deadline=None)
@given(pieces=st.lists(st.binary(max_size=80), max_size=5), finished=st.booleans())
def test_nothing_a_peer_sends_escapes_as_an_exception(pieces: list[bytes], finished: bool, trust: TlsTrust) -> None:
    async def attack() -> None:
        escaped: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: escaped.append(context))
        upper = End()
        if finished:
            peer = await joined(trust, upper)
            peer.send(peer.sealed(b"fine"))
            other: Peer | End = peer
        else:
            other = End()
            memory_pair(asyncio.get_running_loop(), Handshake(upper, trust.server, server_side=True).lower, other)
        lower = other.lower if isinstance(other, Peer) else other.transport
        assert lower is not None
        for piece in pieces:
            lower.write(piece)
        lower.write_eof()
        for _ in range(20):
            await asyncio.sleep(0)
        assert escaped == []
        assert bytes(upper.received) in (b"", b"fine")
        assert not finished or "lost" in upper.events

    asyncio.run(attack())


# The context for upstreams


def test_client_context_verifies_and_speaks_http_1_1(trust: TlsTrust, tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text(trust.ca_pem)
    context = client_context(str(ca_file))
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert len(context.get_ca_certs()) == 1  # this file alone


async def test_client_context_reaches_what_it_trusts(trust: TlsTrust, tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text(trust.ca_pem)
    a, b = End(), End()
    client = Handshake(a, client_context(str(ca_file)), server_side=False, server_hostname=trust.HOST)
    server = Handshake(b, trust.server, server_side=True)
    memory_pair(asyncio.get_running_loop(), client.lower, server.lower)
    await client.done.wait()
    assert client.calls == [None]
    assert a.transport.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
    a.transport.abort()


def test_missing_or_empty_ca_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        client_context(str(tmp_path / "none.pem"))
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    with pytest.raises(ssl.SSLError):
        client_context(str(empty))


async def test_standard_library_client_over_a_socket(trust: TlsTrust) -> None:
    upper = End(on_data=lambda end: end.transport.write(end.received.upper()))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Handshake(upper, trust.server, server_side=True).lower, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()

    def ask() -> bytes:
        context = ssl.create_default_context(cadata=trust.ca_pem)
        with (
            socket.create_connection(address, timeout=5) as plain,
            context.wrap_socket(plain, server_hostname=trust.HOST) as tls,
        ):
            tls.sendall(b"question")
            return tls.recv(100)

    assert await loop.run_in_executor(None, ask) == b"QUESTION"
    server.close()


async def test_pair_over_memory_closes_cleanly_from_either_side(trust: TlsTrust) -> None:
    a, b = End(), End()
    await tls_pair(a, b, trust, over_tcp=False)
    a.transport.close()
    b.transport.close()
    await a.until_event("lost")
    await b.until_event("lost")
    assert (a.error, b.error) == (None, None)


@pytest.mark.parametrize(("mode", "is_taken"), [(0o600, True), (0o400, True), (0o640, False), (0o604, False)])
def test_a_listeners_key_is_its_owners_alone(tmp_path: Path, mode: int, is_taken: bool) -> None:
    files = write_origin_files(tmp_path, ["gateway.test"])
    files.key_file.chmod(mode)
    if is_taken:
        server_context(str(files.certificate_file), str(files.key_file))
    else:
        with pytest.raises(ExposedKeyError, match=re.escape(str(files.key_file))):
            server_context(str(files.certificate_file), str(files.key_file))
