"""The body of one request on its way up: the sandbox's framing off, its limit kept, ours on, written upstream.

Made when the request has its link, as the Answer is for the way back. What a fault means for the exchange is the
exchange's business: gateway/serve.py.
"""

from typing import TYPE_CHECKING

from gateway.core.decision import Deny
from gateway.core.errors import body_too_large, placeholder_left
from gateway.upstream import UpstreamLink
from sallyport.problem import Code
from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.body import frame_chunk, frame_end
from sallyport.wire.http1.framing import request_reader
from sallyport.wire.http1.head import CHUNKED
from sallyport.wire.http1.shape import field_name

if TYPE_CHECKING:
    from gateway.serve import Exchange


class RequestBody:
    """Always: what was written upstream is what the reader gave, up to `limit` bytes of payload (None: no limit).

    `head` is written with what is here of the body: uvloop writes at once, and each call is a system call.
    """

    def __init__(self, exchange: "Exchange", link: UpstreamLink, limit: int | None, head: bytes) -> None:
        self._exchange = exchange
        self._upstream = link.transport
        self._limit = limit
        self._unsent = head
        self._reader = request_reader(exchange.head)
        self._is_chunked = exchange.head.body == CHUNKED

    def received(self, data: bytes) -> bytes:
        """Pass on a piece of the body; returns what stood behind its end. A faulty one ends the exchange."""
        exchange, reader = self._exchange, self._reader
        try:
            payload = reader.feed(data)
        except RemoteProtocolError as error:
            return self._fail(Deny(code=Code.INVALID_REQUEST, detail=f"the request body is malformed: {error.reason}"))
        framed = b""
        if payload:
            exchange.bytes_up += len(payload)
            if self._limit is not None and exchange.bytes_up > self._limit:
                route_limit = None if exchange.route is None else exchange.route.max_body_bytes
                return self._fail(body_too_large(self._limit, route_limit))
            if exchange.capture is not None:
                exchange.capture.request_body(payload)
            framed = frame_chunk(payload) if self._is_chunked else payload
        if reader.done and self._is_chunked:
            trailers = self._allowed(reader.trailers) if reader.trailers else []
            if trailers and exchange.table is not None and exchange.table.holds_placeholder(b"\r\n".join(trailers)):
                return self._fail(placeholder_left(exchange.rule_id))
            framed += frame_end(trailers)
        if framed:
            unsent, self._unsent = self._unsent, b""
            self._upstream.write(unsent + framed if unsent else framed)
            exchange.answer_progressed()
        if not reader.done:
            return b""
        exchange.request_ended()
        return reader.rest

    def begin(self) -> None:
        """Write the head where nothing of the body was here to go with it."""
        unsent, self._unsent = self._unsent, b""
        if unsent:
            self._upstream.write(unsent)

    def _fail(self, deny: Deny) -> bytes:
        if self._unsent:
            self._unsent = b""
            self._exchange.withhold()
        self._exchange.fail(deny)
        return b""

    def _allowed(self, trailers: list[bytes]) -> list[bytes]:
        """Trailers are no way round the auth slots (C1)."""
        injection = self._exchange.injection
        if injection is None:
            return trailers
        removed = injection.removed
        return [line for line in trailers if field_name(line.partition(b":")[0]) not in removed]

    def __repr__(self) -> str:
        return f"<RequestBody {'whole' if self._reader.done else 'under way'}>"
