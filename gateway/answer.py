"""The answer of one exchange: heads read, framing taken off, scrubbed, framed again, written downstream.

An Answer is the user of an upstream link from the moment the request was sent to the last byte of its answer.
What an answer means for the exchange (a 101, a 401, an early end) is the exchange's business: gateway/serve.py.
"""

from typing import TYPE_CHECKING, Final

from gateway.core.content_coding import CODING_FIELD, Coding, GzipReader, drop_coded_trailers, drop_coding, read_coding
from gateway.core.downstream_head import answer_head, interim_head, without_hidden
from gateway.core.scrub import Scrubber
from gateway.upstream import UpstreamLink
from sallyport.net.bulk_turns import BULK
from sallyport.net.tls import unread_bytes
from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.body import BodyReader, UntilCloseReader, frame_chunk, frame_end
from sallyport.wire.http1.codec import parse_response
from sallyport.wire.http1.framing import answer_reader, has_answer_body
from sallyport.wire.http1.head import CHUNKED, ResponseHead
from sallyport.wire.http1.scan import HEAD_END, TOO_MANY_LINES, head_end

if TYPE_CHECKING:
    from gateway.serve import Exchange

_head_end: Final = head_end

SWITCHING: Final = 101
UNAUTHORIZED: Final = 401

# How long gzip is undone in one turn of the loop, of all answers together. A few KiB can be MiBs, each full of secrets:
# so an answer takes one step at once, where nobody else has in this turn, and stands in line (parts.codings) for more.
# A step may take longer than this, and then is the only one; of a harmless answer it takes a fraction of a millisecond.
CODING_SECONDS: Final = 0.004


class Answer:
    """One attempt at an answer over one link.

    Always: nothing of a final answer has gone downstream while `head` is None.
    """

    head: ResponseHead | None = None
    scrubber: Scrubber | None = None
    body_bytes = 0
    is_request_held = False
    is_late = False  # some of it waits for a turn of the loop
    _buffer = b""
    _interim = 0
    _reader: BodyReader | None = None
    _is_chunked = False
    _gzip: GzipReader | None = None  # the answer is gzip, and searched
    waits = False  # coded bytes wait to be undone, and so the link is not read

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
            end = _head_end(data, limits.header_count)
            if end < 0 or end > limits.head_bytes:
                if end == TOO_MANY_LINES:
                    raise RemoteProtocolError("the answer's head has too many fields")
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
        has_body = has_answer_body(exchange.head.method, head.status)
        injection = exchange.injection
        needles = None if injection is None else injection.needles
        if needles is not None and head.has(CODING_FIELD) and not self._open_coding(head, has_body=has_body):
            exchange.answer_unscannable()
            return
        self.head = head
        block = answer_head(head, has_body=has_body, close=exchange.is_last())
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
        if self._reader is None:
            self._reader = answer_reader(exchange.head.method, head)
        self._is_chunked = has_body and (head.body is None or head.body == CHUNKED)
        block = self.scrub_head(block)
        if exchange.capture is not None:
            exchange.capture.answer_head(block)
        try:
            self._relay_body(block, rest)
        except RemoteProtocolError:
            self.head = None  # it was not written, so there is still something to say
            raise

    def _open_coding(self, head: ResponseHead, *, has_body: bool) -> bool:
        """Have a coding undone that came although identity was asked for (C3); False where that is to be refused."""
        coding = read_coding(head)
        if coding is Coding.GZIP:
            self._reader = answer_reader(self._exchange.head.method, head)
            if has_body:
                self._gzip = GzipReader()
            # Without a body too: an answer to HEAD, and a 304, describe what a GET is answered with.
            drop_coding(head)
        elif coding is Coding.OPAQUE and has_body:
            if not self._exchange.parts.scrub.lets_unscannable_pass:
                return False
            self._exchange.parts.metrics.scrub_unscanned += 1
        return True

    def scrub_head(self, block: bytes) -> bytes:
        """Begin to scrub, where a credential was injected and the operator has not switched it off (C3)."""
        injection = self._exchange.injection
        if injection is None or injection.needles is None:
            return block
        if self.scrubber is None:
            self.scrubber = Scrubber(injection.needles)
        return self.scrubber.scrub_head(block)

    def _relay_body(self, block: bytes, data: bytes, *, has_turn: bool = False) -> None:
        """Take the upstream's framing off, scrub, put ours on, write."""
        reader = self._reader
        assert reader is not None, "relay() came before"
        payload = reader.feed(data) if data else b""
        is_over = reader.done
        if self._gzip is not None:
            payload = self._undo(self._gzip, payload, has_turn=has_turn)
            is_over = is_over and not self.waits
        if self.scrubber is not None:
            payload = self.scrubber.feed(payload)
            if is_over:
                payload += self.scrubber.finish()
        self.body_bytes += len(payload)
        if self._exchange.capture is not None:
            self._exchange.capture.answer_body(payload)
        if not self._is_chunked:
            block += payload
        else:
            if payload:
                block += frame_chunk(payload)
            if is_over:
                block += frame_end(self._passed_on(reader.trailers))
        if block:
            self._exchange.stream.write(block)
        if is_over:
            self._exchange.answer_ended(is_clean=not reader.rest)
            return
        self._exchange.answer_progressed()
        if self.waits:
            self._stand_in_line()

    def _passed_on(self, trailers: list[bytes]) -> list[bytes]:
        """Return what goes on of the trailers, searched as the head was."""
        if not trailers:
            return trailers
        trailers = without_hidden(trailers)
        if self._gzip is not None:
            trailers = drop_coded_trailers(trailers)
        if self.scrubber is None or not trailers:
            return trailers
        return self.scrubber.scrub_head(b"\r\n".join(trailers)).split(b"\r\n")

    # An answer that is gzip ---------------------------------------------------------------------------

    def _undo(self, gzip: GzipReader, payload: bytes, *, has_turn: bool) -> bytes:
        """Undo a step of the coding. What is left waits, unread bytes behind it: its memory has an end."""
        exchange = self._exchange
        assert self._reader is not None, "relay() came before"
        gzip.feed(payload)
        piece = b""
        if gzip.has_more and not exchange.stream.is_writing_held and (has_turn or exchange.parts.codings.claim()):
            piece = gzip.step()
        if gzip.has_more is not self.waits:
            self.waits = gzip.has_more
            if self.waits:
                self.link.hold_reading("coding")
            else:
                self.link.resume_reading("coding")
        if self._reader.done and not self.waits:
            gzip.finish()
        return piece

    def _stand_in_line(self) -> None:
        """Wait for a turn; while the sandbox does not read, for that first."""
        exchange = self._exchange
        if not exchange.stream.is_writing_held:
            assert exchange.table is not None, "admission came before"
            exchange.parts.codings.enter(exchange.table.sandbox_id, self)

    def leave_line(self) -> None:
        """Undo no more: nobody waits for it."""
        exchange = self._exchange
        assert exchange.table is not None, "admission came before"
        exchange.parts.codings.leave(exchange.table.sandbox_id, self)

    def take_turn(self) -> None:
        """Undo one step more."""
        if self.link.user is self:
            try:
                self._relay_body(b"", b"", has_turn=True)
            except RemoteProtocolError as error:
                self._exchange.answer_malformed(error.reason)

    # The link ---------------------------------------------------------------------------------------

    def link_ended(self, error: Exception | None) -> None:
        """The link is gone; where the answer ends with its link and the end was clean, that is its end."""
        reader = self._reader
        if isinstance(reader, UntilCloseReader) and error is None:
            reader.done = True
        if reader is None or not reader.done:
            self._exchange.answer_cut(str(error or "closed"))
            return
        # The answer is here. While some of it waits to be undone, the link's deadline still ends a slow sandbox.
        self.link.user = self
        self.answer_received(b"")

    def link_timed_out(self) -> None:
        """No progress in time."""
        self._exchange.answer_timed_out()

    def hold(self) -> None:
        """The sandbox is slow: read no more of the answer."""
        self.link.hold_reading("sandbox")

    def resume(self) -> None:
        """The sandbox reads again."""
        self._exchange.stream.backlog.read_on(self.link)
        self.link.resume_reading("sandbox")
        if self.waits:
            self._stand_in_line()

    def hold_late(self, size: int) -> None:
        """Count what waits for a turn of the loop."""
        self.is_late = True
        self._exchange.stream.backlog.hold((self, BULK), size)

    def release_late(self) -> None:
        """Count it no longer."""
        self.is_late = False
        self._exchange.stream.backlog.release((self, BULK))

    def hold_request(self) -> None:
        """The upstream is slow: read no more of the request."""
        stream = self._exchange.stream
        self.is_request_held = True
        stream.hold_reading("link")
        size = self.link.transport.get_write_buffer_size() + unread_bytes(stream.transport)
        stream.backlog.hold(self, size)

    def resume_request(self) -> None:
        """The upstream reads again."""
        stream = self._exchange.stream
        self.is_request_held = False
        stream.backlog.release(self)
        stream.backlog.read_on(stream)
        stream.resume_reading("link")

    @property
    def has_told(self) -> bool:
        """Whether anything of this answer has gone downstream."""
        return self._interim > 0

    @property
    def has_begun(self) -> bool:
        """Whether any byte of an answer has arrived."""
        return self.head is not None or bool(self._buffer) or self._interim > 0
