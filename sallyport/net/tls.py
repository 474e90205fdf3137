"""TLS as one more layer over any transport, by synchronous callbacks.

`TlsTransport` is the protocol of the transport below it and the transport of the protocol above it. asyncio's own
`start_tls` is a coroutine, loses bytes that came early, has no half-close and needs a socket; this one needs none of
it, so that it also runs over a tunnel's stream. Bytes travel: lower.data_received -> incoming BIO -> SSLObject ->
upper.data_received, and upper.write -> SSLObject -> outgoing BIO -> lower.write.

Ends of a stream: `write_eof` sends close_notify and leaves the lower transport open in both directions (TLS's own
half-close; a TCP FIN on top makes many peers drop their answer); `close` ends both. A peer's close_notify is
`upper.eof_received()`; an end of the lower transport without it is a truncation and arrives as
`upper.connection_lost(ssl.SSLEOFError)`.
"""

import asyncio
import enum
import os
import ssl
import stat
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

from sallyport.net.bulk_turns import TIMED_BYTES, BulkTurns
from sallyport.net.clock import read_clock

# SSL_read gives at most one record's plaintext, so a larger buffer would only cost its allocation.
_RECORD_BYTES: Final = 16 * 1024
# What goes up in one call: enough that a relay's write below it is worth its system call.
_DELIVERY_BYTES: Final = 256 * 1024
# A memory BIO never shrinks: larger pieces are cut, or each idle transport would keep its largest burst.
_SLICE_BYTES: Final = 64 * 1024
# The first is smaller, and one that takes long is followed by the least, from which they grow again: 64 KiB of key
# updates are 70 ms of work.
_FIRST_SLICE_BYTES: Final = 16 * 1024
_LEAST_SLICE_BYTES: Final = 4 * 1024
_SLICE_SECONDS: Final = 0.001
# What a peer may send without data: a record that is not whole yet, tickets, a few key updates. A byte of data makes
# good for more than the smallest record that it can stand in.
_MAX_FRUITLESS_BYTES: Final = 32 * 1024
_BYTE_IS_WORTH: Final = 32
# What a peer that takes nothing may have us answer it: key updates ask for one each.
_MAX_UNASKED_BYTES: Final = 4 * 1024
# OpenSSL takes certificate chains up to 100 KiB; no honest handshake comes near this.
_MAX_HANDSHAKE_BYTES: Final = 256 * 1024
# What OpenSSL can hold of a server's handshake: 45 KiB where all is well, and where it has asked for another
# ClientHello (for the first had no key share that it takes) as much as a client claims to send, 128 KiB at most.
HANDSHAKE_BYTES: Final = 176 * 1024
# As little as a certificate of a peer is counted as: OpenSSL takes twice this to hold the smallest.
_LEAST_CERTIFICATE_BYTES: Final = 2 * 1024
# Bytes under way arrive in this time; an idle client that overlooks our end must not hold up a drain.
_LINGER_SECONDS: Final = 1.0


class _State(enum.Enum):
    HANDSHAKING = "handshaking"
    OPEN = "open"
    CLOSING = "closing"  # by us or after a failure; nothing more goes up but connection_lost
    CLOSED = "closed"


# Its type is said, so that mypy does not take a transport that was open for one that still is.
_OPEN: Final[_State] = _State.OPEN
# Stands where the upper protocol was once nothing more can come: an ended transport must not keep it alive.
_NOBODY: Final = asyncio.Protocol()
# Likewise where the SSL object was: OpenSSL's 20 KiB for it are in no collector's count, and whoever uses transports
# mostly has them in cycles.
_NO_OBJECT: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(
    ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="closed.invalid"
)


type _Read = Callable[[int], bytes]
type _Write = Callable[[bytes | bytearray | memoryview], int]


def _crypt_of(tls: ssl.SSLObject) -> tuple[_Read, _Write]:
    """Return what its `read` and `write` call: each is one more call in Python, for nothing, in every direction."""
    inner = tls._sslobj  # type: ignore[attr-defined]
    return inner.read, inner.write


class TlsTransport(asyncio.Transport, asyncio.Protocol):
    """Carry an upper protocol over TLS on a lower transport.

    `start` takes the lower transport over (`set_protocol`) and begins the handshake. `on_handshake` is called exactly
    once: with None after `upper.connection_made(self)`, or with what went wrong (an OSError; ssl.SSLError is one), and
    then the upper protocol never hears of this transport. The handshake has no timer here: `abort` ends it.
    Pausing stops plaintext that is already here too; with `turns` a read that takes long does so in later turns of the
    loop. A peer that sends record after record without data is cut off.
    `session` is offered by a client; `ssl_session` gives one to offer next time, which with TLS 1.3 exists only once
    the server's ticket has arrived behind the handshake.
    """

    __slots__ = (
        "_awaits_turn",
        "_batching",
        "_context",
        "_decrypt",
        "_encrypt",
        "_end_told",
        "_failure",
        "_fruitless_bytes",
        "_handshake_bytes",
        "_has_more",
        "_held",
        "_incoming",
        "_linger_timer",
        "_loop",
        "_lower",
        "_lower_ended",
        "_object",
        "_on_handshake",
        "_outgoing",
        "_peer_ended",
        "_reading_paused",
        "_slice_bytes",
        "_state",
        "_turns",
        "_unasked_bytes",
        "_unread",
        "_upper",
        "_write_ended",
        "_writing_paused",
    )

    def __init__(
        self,
        lower: asyncio.Transport,
        upper: asyncio.Protocol,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        on_handshake: Callable[[Exception | None], None],
        server_hostname: str | None = None,
        session: ssl.SSLSession | None = None,
        turns: BulkTurns | None = None,
    ) -> None:
        # Without asyncio's own __init__: all it makes is a dict for get_extra_info, which is ours, in a slot that lies
        # where a compiled class has its table of methods.
        self._loop = asyncio.get_running_loop()
        self._lower = lower
        self._upper = upper
        self._context = context
        self._turns = turns
        self._on_handshake = on_handshake
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side, server_hostname, session)
        self._decrypt, self._encrypt = _crypt_of(self._object)
        self._state = _State.HANDSHAKING
        self._handshake_bytes = 0
        self._failure: Exception | None = None
        self._batching = False  # inside data_received: writes are flushed together at its end
        self._reading_paused = False
        self._awaits_turn = False
        self._writing_paused = False
        self._has_more = False  # what the last read left behind, in the SSL object or before it
        self._peer_ended = False  # close_notify received
        self._end_told = False  # and passed up
        self._lower_ended = False  # eof_received from below, not yet acted on while reading is paused
        self._write_ended = False  # close_notify sent
        self._linger_timer: asyncio.TimerHandle | None = None
        self._held: bytes = b""  # plaintext taken out of the SSL object while reading was paused
        self._unread: bytes | memoryview = b""  # the rest of a long read: behind what the SSL object has
        self._slice_bytes = _FIRST_SLICE_BYTES if turns is not None else _SLICE_BYTES
        self._fruitless_bytes = 0  # that came and brought no data, less what data has made good
        self._unasked_bytes = 0  # written for OpenSSL alone since writing was paused

    def start(self, initial: bytes = b"") -> None:
        """Take the lower transport over and begin the handshake; `initial` is what was read from it already."""
        self._lower.set_protocol(self)
        if self._lower.is_closing():  # its connection_lost may have gone to the protocol before this one
            self._tell_handshake(ConnectionAbortedError("closed before the TLS handshake"), _State.CLOSED)
            return
        self._batching = True
        try:
            if initial:
                self._receive_in_handshake(initial)
            else:
                self._advance_handshake()
        finally:
            self._batching = False
        self._flush()

    @property
    def ssl_session(self) -> ssl.SSLSession | None:
        """The session to offer in a later handshake with the same peer, if there is one by now."""
        return self._object.session

    @property
    def peer_chain_bytes(self) -> int:
        """How large the certificates are that the peer has sent, needed or not: `ssl_session` holds them all.

        0 where a session was resumed: what was offered had lost them.
        """
        chain = self._object.get_unverified_chain()
        return sum(max(len(certificate), _LEAST_CERTIFICATE_BYTES) for certificate in chain)

    # What the lower transport calls, in the order of a transport's life

    def data_received(self, data: bytes) -> None:
        self._batching = True
        try:
            if self._state is _OPEN:
                self._receive(data)
            elif self._state is _State.HANDSHAKING:
                self._receive_in_handshake(data)
        finally:
            self._batching = False
        if self._outgoing.pending:
            self._flush()

    def eof_received(self) -> bool:
        self._lower_ended = True
        if self._state is _State.HANDSHAKING:
            self._fail(ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "the peer closed during the TLS handshake"))
        elif self._state is _OPEN and not (self._reading_paused or self._awaits_turn):
            self._end_of_lower()
        return self._state is _OPEN

    def connection_lost(self, exc: Exception | None) -> None:
        if self._linger_timer is not None:
            self._linger_timer.cancel()
        if self._turns is not None:
            self._turns.leave(self)
        self._loop.call_soon(self._release)  # who has ended it may be about to use it once more
        if self._state is _State.HANDSHAKING:
            self._tell_handshake(exc or ConnectionAbortedError("closed during the TLS handshake"), _State.CLOSED)
        elif self._state is not _State.CLOSED:
            self._state = _State.CLOSED
            upper, self._upper = self._upper, _NOBODY
            upper.connection_lost(self._failure or exc)

    def _release(self) -> None:
        """Give back what OpenSSL holds, whoever still holds this."""
        self._object = _NO_OBJECT
        self._decrypt, self._encrypt = _crypt_of(_NO_OBJECT)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._unread = b""

    def pause_writing(self) -> None:
        self._writing_paused = True
        if self._state is _OPEN:
            self._upper.pause_writing()

    def resume_writing(self) -> None:
        # The pause may have gone to the protocol that had the lower transport before.
        if self._writing_paused:
            self._writing_paused = False
            self._unasked_bytes = 0
            if self._state is _OPEN:
                self._upper.resume_writing()

    # Handshake

    def _receive_in_handshake(self, data: bytes) -> None:
        self._handshake_bytes += len(data)
        self._incoming.write(data)
        self._advance_handshake()
        if self._state is _State.HANDSHAKING and self._handshake_bytes > _MAX_HANDSHAKE_BYTES:
            self._fail(ssl.SSLError(ssl.SSL_ERROR_SSL, "the peer's handshake is too long"))

    def _advance_handshake(self) -> None:
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return
        except (OSError, ValueError) as error:  # ValueError: a certificate whose names OpenSSL cannot print
            self._fail(error)
            return
        self._state = _OPEN
        self._upper.connection_made(self)
        if self._writing_paused:
            self._upper.pause_writing()
        self._tell_handshake(None, self._state)
        self._deliver(0)

    def _tell_handshake(self, error: Exception | None, state: _State) -> None:
        self._state = state
        on_handshake, self._on_handshake = self._on_handshake, _already_told
        on_handshake(error)

    # Receiving

    def _receive(self, data: bytes) -> None:
        if self._peer_ended:
            return  # nothing may follow close_notify, and nobody would take it out of the BIO
        if len(data) < TIMED_BYTES and not self._unread:
            self._incoming.write(data)
            self._deliver(len(data))
            return
        self._unread = memoryview(bytes(self._unread) + data if self._unread else data)
        self._take_unread()

    def _take_unread(self) -> None:
        """Decrypt one slice after the other, for as long as the upper protocol and this turn of the loop take them."""
        turns = self._turns
        while self._unread and not (self._reading_paused or self._awaits_turn) and self._state is _OPEN:
            if turns is not None and turns.is_spent:
                turns.wait(self, 1.0)
                break
            size = self._slice_bytes
            piece, self._unread = self._unread[:size], self._unread[size:]
            before, began_at = 0.0 if turns is None else turns.reads, read_clock()
            self._incoming.write(piece)
            self._deliver(len(piece))
            if turns is not None:
                seconds = read_clock() - began_at
                turns.count(before, seconds, len(piece))
                self._slice_bytes = _LEAST_SLICE_BYTES if seconds > _SLICE_SECONDS else min(size * 4, _SLICE_BYTES)
        self._unread = bytes(self._unread)  # a view would keep the whole read alive

    @property
    def turn_owner(self) -> object:
        """Whoever the upper protocol is of, where it says so."""
        return getattr(self._upper, "turn_owner", self)

    def await_turn(self, late: int) -> bool:
        """Read nothing until go_on()."""
        if self._state is not _OPEN or self._lower.is_closing():
            return False
        self._awaits_turn = True
        if not self._reading_paused:
            self._lower.pause_reading()
        return True

    def go_on(self, late: bytes) -> None:
        """Take what is left of a long read, and read on. Nothing is late: it is `unread_bytes` here."""
        self._awaits_turn = False
        self._deliver_held()

    def _deliver(self, size: int) -> None:
        """Pass plaintext up until none is left, the upper protocol pauses, or the transport ends.

        As many bytes have come for it since it was done last.
        """
        while self._state is _OPEN and not self._reading_paused:
            data = self._take_while_paused() if self._writing_paused else self._take_plaintext()
            if data:
                size -= _BYTE_IS_WORTH * len(data)
                self._upper.data_received(data)
                # Asking first spares the SSLWantReadError that another read would mostly cost.
                if self._has_more or self._peer_ended or self._held:
                    continue
            elif self._peer_ended and not self._end_told:
                self._end_told = True
                if not self._upper.eof_received():
                    self.close()
            break
        if size > 0 or self._fruitless_bytes:
            self._count_fruitless(size)

    def _count_fruitless(self, size: int) -> None:
        self._fruitless_bytes = max(self._fruitless_bytes + size, 0)
        if self._fruitless_bytes > _MAX_FRUITLESS_BYTES and self._state is _OPEN and not self._reading_paused:
            self._fail(ssl.SSLError(ssl.SSL_ERROR_SSL, "the peer sends records without data"))

    def _take_while_paused(self) -> bytes:
        """Give plaintext as always; a peer that takes nothing, and has us answer it, is cut off."""
        before = self._outgoing.pending
        data = self._take_plaintext()
        self._unasked_bytes += self._outgoing.pending - before
        if self._unasked_bytes > _MAX_UNASKED_BYTES and self._state is _OPEN:
            self._fail(ssl.SSLError(ssl.SSL_ERROR_SSL, "the peer asks and takes no answers"))
            return b""
        return data

    def _take_plaintext(self) -> bytes:
        """Give what is decrypted or can be now, a delivery's worth at most; b"" for "not yet", end or failure."""
        if self._held:
            held, self._held = self._held, b""
            self._has_more = True  # while reading was paused more may have come behind it
            return held
        if self._peer_ended:
            return b""
        parts: list[bytes] = []
        taken = 0
        try:
            while taken < _DELIVERY_BYTES:
                part = self._decrypt(_RECORD_BYTES)
                if not part:
                    self._peer_ended = True
                    break
                # A read that brings less than was asked for has taken its record whole.
                self._has_more = self._incoming.pending > 0 or len(part) == _RECORD_BYTES
                if not self._has_more and not parts:
                    return part
                parts.append(part)
                if not self._has_more:
                    break
                taken += len(part)
        except ssl.SSLWantReadError:
            self._has_more = False
        except ssl.SSLZeroReturnError:
            self._peer_ended = True
        except OSError as error:
            # What was authentic before the bad record is dropped with it: the upper protocol learns of the failure.
            self._fail(error)
            return b""
        return b"".join(parts)

    def _end_of_lower(self) -> None:
        if not self._peer_ended:
            self._failure = ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "the peer closed without close_notify")
            self.abort()

    # What the upper protocol calls

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._state is not _OPEN or not data:
            return
        if self._write_ended:
            raise RuntimeError("write() after write_eof()")
        try:
            if len(data) <= _SLICE_BYTES:
                self._encrypt(data)
            else:
                self._write_slices(memoryview(data).cast("B"))
        except OSError as error:
            self._fail(error)
            return
        if not self._batching:
            self._lower.write(self._outgoing.read())

    def _write_slices(self, view: memoryview) -> None:
        for start in range(0, len(view), _SLICE_BYTES):
            self._encrypt(view[start : start + _SLICE_BYTES])
            self._lower.write(self._outgoing.read())

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        """Send close_notify; reading goes on. Nothing can be written afterwards."""
        if self._state is _OPEN and not self._write_ended:
            self._write_ended = True
            self._send_close_notify()
            if not self._batching:
                self._flush()

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        """Send close_notify and end the lower transport once everything is flushed and the peer has ended too.

        A peer that does not end is waited for a second; `abort` does not wait.
        """
        if self._state is _State.HANDSHAKING:
            self._lower.close()
        elif self._state is _OPEN:
            self._state = _State.CLOSING
            if not self._write_ended:
                self._write_ended = True
                self._send_close_notify()
            self._flush()
            if self._peer_ended or self._lower_ended or self._lower.is_closing() or not self._lower.can_write_eof():
                self._lower.close()
            else:
                self._linger()

    def _linger(self) -> None:
        """Go on reading, into nothing, until the peer ends.

        A socket that is closed with bytes unread, and a TLS 1.3 client mostly has a ticket unread, resets the
        connection, and the reset overtakes what the kernel still has to send (RFC 9112 section 9.6).
        """
        self._lower.write_eof()
        if self._reading_paused:
            self._lower.resume_reading()
        self._linger_timer = self._loop.call_later(_LINGER_SECONDS, self._lower.close)

    def abort(self) -> None:
        if self._state is _OPEN:
            self._state = _State.CLOSING
        self._lower.abort()

    def is_closing(self) -> bool:
        return self._state is _State.CLOSING or self._state is _State.CLOSED or self._lower.is_closing()

    def pause_reading(self) -> None:
        if not self._reading_paused:
            self._reading_paused = True
            if self._state is _OPEN and not (self._awaits_turn or self._lower.is_closing()):
                self._lower.pause_reading()

    def resume_reading(self) -> None:
        if self._reading_paused:
            self._reading_paused = False
            self._loop.call_soon(self._deliver_held)

    def is_reading(self) -> bool:
        return self._state is _OPEN and not self._reading_paused

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._upper = cast("asyncio.Protocol", protocol)

    def get_protocol(self) -> asyncio.Protocol:
        return self._upper

    def get_write_buffer_size(self) -> int:
        return self._lower.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._lower.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._lower.set_write_buffer_limits(high, low)

    @property
    def unread_bytes(self) -> int:
        """How much was read below and not passed up: some of one read, where the upper protocol has paused in it."""
        return self._incoming.pending + len(self._held) + len(self._unread)

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401  asyncio's own signature
        if name == "ssl_object":
            return self._object
        if name == "sslcontext":
            return self._context
        return self._lower.get_extra_info(name, default)

    # Ends

    def _deliver_held(self) -> None:
        """Deliver what came before or while reading was paused, and only then let more come."""
        if self._state is not _OPEN or self._reading_paused or self._awaits_turn:
            return
        self._batching = True
        try:
            self._deliver(0)
            self._take_unread()
        finally:
            self._batching = False
        self._flush()
        if self._reading_paused or self._awaits_turn or self._state is not _OPEN:
            return
        if self._lower_ended:
            self._end_of_lower()
        elif not self._lower.is_closing():
            self._lower.resume_reading()

    def _send_close_notify(self) -> None:
        """Put close_notify into the outgoing BIO.

        `unwrap` also reads, looking for the peer's, and throws application data away that it meets; so whatever is
        readable is taken out first.
        """
        if self._state is _OPEN:
            rest: list[bytes] = []
            while more := self._take_plaintext():
                rest.append(more)
            self._held = b"".join(rest)
        try:
            self._object.unwrap()
        except (OSError, ValueError):
            pass  # SSLWantReadError: the peer's is still to come; any other: there is nobody left to tell

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._lower.write(self._outgoing.read())

    def _fail(self, error: Exception) -> None:
        """End it all: the alert OpenSSL wrote goes out if the way is free, then the lower transport closes."""
        was_handshaking = self._state is _State.HANDSHAKING
        self._failure = error
        self._state = _State.CLOSING
        if self._lower.get_write_buffer_size() == 0:
            self._flush()
            self._lower.close()
        else:
            self._lower.abort()
        if was_handshaking:
            self._tell_handshake(error, _State.CLOSED)

    def __repr__(self) -> str:
        return f"<TlsTransport {self._state.value} over {self._lower!r}>"


def _already_told(_error: Exception | None) -> None:
    """Take the place of `on_handshake`, so that an open transport does not keep alive what waited for it."""


def unread_bytes(transport: asyncio.BaseTransport) -> int:
    """Return how much a transport has read and not passed up, where it is TLS; any other passes all of it up."""
    return transport.unread_bytes if isinstance(transport, TlsTransport) else 0


def client_context(ca_file: str | None) -> ssl.SSLContext:
    """Make the context for upstreams: chain and host name verified, TLS 1.2 or later, HTTP/1.1 only.

    Trusts `ca_file` (PEM) alone where it is given, else the system's roots. OSError when it cannot be read,
    ssl.SSLError when it holds no certificate.
    """
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    return context


class ExposedKeyError(Exception):
    """A private key that others than its owner may read; str() is its path."""


def server_context(certificate_file: str, key_file: str) -> ssl.SSLContext:
    """Make the context of a listener: TLS 1.2 or later, HTTP/1.1 only.

    OSError when a file cannot be read, ExposedKeyError when others may read the key, ssl.SSLError when the two are no
    certificate chain and its key.
    """
    if stat.S_IMODE(os.stat(key_file).st_mode) & 0o077:
        raise ExposedKeyError(key_file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    # A key with a password would have OpenSSL ask for it on the terminal.
    context.load_cert_chain(certificate_file, key_file, password=_no_password)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _no_password() -> bytes:
    raise ssl.SSLError("the key has a password")
