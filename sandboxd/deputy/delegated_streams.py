"""Streams of the gateway to what runs in a sandbox that sandboxd stands outside of: its deputy opens them there.

The deputy knows what is declared and answers; sandboxd passes its answer and then bytes on, as they are. The gateway
reads that answer as it would read any sandboxd's, which is in no sandbox's hands either.
"""

import asyncio
from typing import Final

from sallyport.net.clock import NEVER, Clock
from sallyport.net.relay import Relay
from sallyport.net.tunnel import TunnelUnavailable
from sallyport.problem import Code
from sandboxd.deputy.door import DeputyDoor
from sandboxd.document_stream import DocumentStream, TakesDocuments
from sandboxd.local_streams import IDLE_SECONDS
from sandboxd.stream_answers import StreamRefused, begin_stream, not_found, problem

# The gateway waits 10 s for the one answer. In that time a deputy that has ended comes back, and one that is there
# connects on its own machine (local_streams.CONNECT_SECONDS).
HOLD_SECONDS: Final = 3.0
ANSWER_SECONDS: Final = 6.0


class DelegatedStreams:
    """What the gateway may open, by the deputy. Without a door nothing but a setup document can be brought."""

    def __init__(self, door: DeputyDoor | None, setup: TakesDocuments, *, clock: Clock) -> None:
        self.door = door
        self.clock = clock
        self._setup = setup
        self._open: set[asyncio.Transport] = set()

    def connect(self, stream: asyncio.Transport, target: str) -> asyncio.Protocol:
        """Answer a stream that began `CONNECT target` and return its protocol, as LocalStreams does."""
        return begin_stream(stream, self._open, lambda: self._protocol_for(stream, target))

    async def close(self) -> None:
        """End every stream now."""
        for stream in tuple(self._open):
            stream.abort()

    def ended(self, stream: asyncio.Transport) -> None:
        """A stream is gone, and what stood behind it."""
        self._open.discard(stream)

    def _protocol_for(self, stream: asyncio.Transport, target: str) -> asyncio.Protocol:
        match target.split("/"):
            case ["setup", revision]:
                return DocumentStream(stream, self._setup, revision, lambda: self.ended(stream))
            case ["endpoint", _, _] | ["mcp", _]:
                if self.door is None:
                    raise StreamRefused(problem(Code.UPSTREAM_UNREACHABLE, "no deputy runs in this sandbox"))
                return _DelegatedStream(self, self.door, stream, target)
        raise StreamRefused(not_found("this is not the name of anything in a sandbox"))

    def __repr__(self) -> str:
        return f"<DelegatedStreams: {len(self._open)} open>"


class _DelegatedStream(asyncio.Protocol):
    """A stream of the gateway until the deputy has answered it; then a Relay has it. It is not read before."""

    def __init__(self, streams: DelegatedStreams, door: DeputyDoor, stream: asyncio.Transport, target: str) -> None:
        self._streams = streams
        self._door = door
        self._stream = stream
        self._target = target
        self._early = b""
        self._inside: asyncio.Transport | None = None
        self.deadline_at = self.filed_at = NEVER
        stream.pause_reading()
        if door.tunnel is None:
            streams.clock.watch(self, streams.clock.now + HOLD_SECONDS)
            door.join(self)
        else:
            # Not before the caller has made this the stream's protocol.
            asyncio.get_running_loop().call_soon(self.deputy_came)

    def deputy_came(self) -> None:
        """Have it opened inside."""
        self._door.part(self)
        if self._stream.is_closing() or self._inside is not None:
            return
        try:
            if self._door.tunnel is None:
                raise TunnelUnavailable("it has left")
            self._inside = self._door.tunnel.open_stream(_Answer(self))
        except TunnelUnavailable:
            self._refuse(Code.UPSTREAM_UNREACHABLE, "the sandbox's deputy takes no stream at present")
            return
        self._inside.write(f"CONNECT {self._target} HTTP/1.1\r\nHost: sandbox\r\n\r\n".encode("latin-1"))
        self._streams.clock.watch(self, self._streams.clock.now + ANSWER_SECONDS)

    def deputy_left(self) -> None:
        """Go on waiting: the next one may come."""

    def answered(self, data: bytes) -> None:
        """The deputy's answer begins: from now on bytes are passed on, both ways."""
        streams, stream = self._streams, self._stream
        streams.clock.watch(self, NEVER)
        assert self._inside is not None, "who has answered"
        if stream.is_closing():  # it was refused meanwhile
            self._inside.abort()
            return
        relay = Relay(
            streams.clock,
            stream,
            self._inside,
            idle_seconds=IDLE_SECONDS,
            on_end=lambda _up, _down: streams.ended(stream),
        )
        relay.start(up=self._early, down=data)

    def lost_inside(self) -> None:
        """The deputy has left without an answer, or has reset the stream."""
        self._refuse(Code.UPSTREAM_UNREACHABLE, "the sandbox's deputy has not opened this")

    def expire(self) -> None:
        """Nobody has come, or the one who did does not answer."""
        if self._inside is None:
            self._refuse(Code.UPSTREAM_UNREACHABLE, "the sandbox's deputy does not run at present")
        else:
            self._refuse(Code.UPSTREAM_TIMEOUT, "the sandbox's deputy does not answer")

    def _refuse(self, code: Code, detail: str) -> None:
        self._streams.clock.watch(self, NEVER)
        if not self._stream.is_closing():
            self._stream.write(problem(code, detail))
            self._stream.close()

    def data_received(self, data: bytes) -> None:
        """Reading is paused, so this is what came together with the head."""
        self._early += data

    def connection_lost(self, error: Exception | None) -> None:
        """The stream has ended before it had another end."""
        self._door.part(self)
        self._streams.clock.watch(self, NEVER)
        if self._inside is not None:
            self._inside.abort()
        self._streams.ended(self._stream)


class _Answer(asyncio.Protocol):
    """The stream inside until its first bytes."""

    def __init__(self, waiting: _DelegatedStream) -> None:
        self._waiting = waiting

    def data_received(self, data: bytes) -> None:
        self._waiting.answered(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._waiting.lost_inside()
