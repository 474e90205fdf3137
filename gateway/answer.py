"""The answer of one exchange: heads read, framing taken off, scrubbed, framed again, written downstream.

An Answer is the user of an upstream link from the moment the request was sent to the last byte of its answer.
What an answer means for the exchange (a 101, a 401, an early end) is the exchange's business: gateway/serve.py.
"""

from typing import TYPE_CHECKING, Final

from gateway.core.downstream_head import answer_head, interim_head
from gateway.core.scrub import Scrubber
from gateway.upstream import UpstreamLink
from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.body import BodyReader, frame_chunk, frame_end
from sallyport.wire.http1.codec import parse_response
from sallyport.wire.http1.framing import answer_reader, has_answer_body
from sallyport.wire.http1.head import CHUNKED, ResponseHead
from sallyport.wire.http1.scan import HEAD_END, head_end

if TYPE_CHECKING:
    from gateway.serve import Exchange

_head_end: Final = head_end

SWITCHING: Final = 101
UNAUTHORIZED: Final = 401


class Answer:
    """One attempt at an answer over one link.

    Always: nothing of a final answer has gone downstream while `head` is None.
    """

    head: ResponseHead | None = None
    scrubber: Scrubber | None = None
    body_bytes = 0
    is_request_held = False
    _buffer = b""
    _interim = 0
    _reader: BodyReader | None = None
    _is_chunked = False

    def __init__(self, exchange: "Exchange", link: UpstreamLink) -> None:
        self._exchange = exchange
        self.link = link

    # Bytes of the upstream, in time order -----------------------------------------------------------

    def answer_received(self, data: bytes) -> None:
        """Pass on a piece of the answer; a malformed one ends the exchange (S11)."""
        try:
            if self.head is None:
                self._read_heads(self._buffer + data if self._buffer else data)
            else:
                self._relay_body(b"", data)
        except RemoteProtocolError as error:
            self._exchange.answer_malformed(error.reason)

    def _read_heads(self, data: bytes) -> None:
        """Read heads until the final one; interim answers are passed on (at most limits.interim_answers)."""
        limits = self._exchange.parts.limits
        while True:
            end = _head_end(data)
            if end < 0 or end > limits.head_bytes:
                if len(data) > limits.head_bytes:
                    raise RemoteProtocolError("the answer's head is too long")
                self._buffer = data
                return
            head = parse_response(data[:end])
            data = data[end + len(HEAD_END) :]
            if head.status >= 200 or head.status == SWITCHING:
                self._exchange.answer_began(self, head, data)
                return
            self._interim += 1
            if self._interim > limits.interim_answers:
                raise RemoteProtocolError("too many interim answers")
            self._exchange.stream.write(self.scrub_head(interim_head(head)))

    def relay(self, head: ResponseHead, rest: bytes) -> None:
        """Write the final head, and what is here of its body in the same write; raises RemoteProtocolError."""
        exchange = self._exchange
        self.head = head
        has_body = has_answer_body(exchange.head.method, head.status)
        block = answer_head(head, has_body=has_body, close=exchange.is_last())
        injection = exchange.injection
        needles = None if injection is None else injection.needles
        if needles is not None and has_body and b"content-encoding" in head.names:
            # C3: identity was asked for; what comes coded all the same passes as it is, and the operator can see it.
            exchange.parts.metrics.scrub_unscanned += 1
        if has_body and len(rest) == head.body:
            whole = block + rest
            if needles is None or needles.is_clean(whole):
                # All of it is here and no secret is in it: the common case needs no reader and no scrubber.
                self.body_bytes = len(rest)
                if exchange.capture is not None:
                    exchange.capture.answer_head(block)
                    exchange.capture.answer_body(rest)
                exchange.stream.transport.write(whole)
                exchange.answer_ended(is_clean=True)
                return
        self._reader = answer_reader(exchange.head.method, head)
        self._is_chunked = has_body and (head.body is None or head.body == CHUNKED)
        block = self.scrub_head(block)
        if exchange.capture is not None:
            exchange.capture.answer_head(block)
        self._relay_body(block, rest)

    def scrub_head(self, block: bytes) -> bytes:
        """Begin to scrub, where a credential was injected and the operator has not switched it off (C3)."""
        injection = self._exchange.injection
        if injection is None or injection.needles is None:
            return block
        if self.scrubber is None:
            self.scrubber = Scrubber(injection.needles)
        return self.scrubber.scrub_head(block)

    def _relay_body(self, block: bytes, data: bytes) -> None:
        """Take the upstream's framing off, scrub, put ours on, write."""
        reader = self._reader
        assert reader is not None, "relay() came before"
        payload = reader.feed(data) if data else b""
        if self.scrubber is not None:
            payload = self.scrubber.feed(payload)
            if reader.done:
                payload += self.scrubber.finish()
        self.body_bytes += len(payload)
        if self._exchange.capture is not None:
            self._exchange.capture.answer_body(payload)
        if not self._is_chunked:
            block += payload
        else:
            if payload:
                block += frame_chunk(payload)
            if reader.done:
                block += frame_end(self._scrub_trailers(reader.trailers))
        if block:
            self._exchange.stream.write(block)
        if reader.done:
            self._exchange.answer_ended(is_clean=not reader.rest)
        else:
            self._exchange.answer_progressed()

    def _scrub_trailers(self, trailers: list[bytes]) -> list[bytes]:
        if self.scrubber is None or not trailers:
            return trailers
        return self.scrubber.scrub_head(b"\r\n".join(trailers)).split(b"\r\n")

    # The link ---------------------------------------------------------------------------------------

    def link_ended(self, error: Exception | None) -> None:
        """The link is gone; where the answer ends with its link and the end was clean, that is its end."""
        head, reader = self.head, self._reader
        if head is not None and head.body is None and reader is not None and error is None:
            reader.done = True
            self._relay_body(b"", b"")
        else:
            self._exchange.answer_cut(str(error or "closed"))

    def link_timed_out(self) -> None:
        """No progress in time."""
        self._exchange.answer_timed_out()

    def hold_request(self) -> None:
        """The upstream is slow: read no more of the request."""
        self.is_request_held = True
        self._exchange.stream.hold_reading("link")

    def resume_request(self) -> None:
        """The upstream reads again."""
        self.is_request_held = False
        self._exchange.stream.resume_reading("link")

    @property
    def has_told(self) -> bool:
        """Whether anything of this answer has gone downstream."""
        return self._interim > 0

    @property
    def has_begun(self) -> bool:
        """Whether any byte of an answer has arrived."""
        return self.head is not None or bool(self._buffer) or self._interim > 0
