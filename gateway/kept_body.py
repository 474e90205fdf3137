"""A request's body that is kept until it is whole, because its hash stands in the signature of its head.

Only where the route signs and the request does not tell the hash (gateway/core/inject/aws_sigv4.py); every other body
passes through gateway/request_body.py. What is kept counts for its sandbox, and for the process with what its tunnels
keep: who would bring its sandbox over is refused, and where the process is over, who holds most is reset.
"""

import hashlib
from collections import Counter
from typing import TYPE_CHECKING

from gateway.core.authority import Refused
from gateway.core.decision import Deny
from gateway.core.errors import body_too_large, kept_bodies_are_full, signed_body_too_large
from gateway.core.inject.aws_sigv4 import Payload
from gateway.upstream import UpstreamLink
from sallyport.net.buffer_budget import DEFAULT_BUDGET_BYTES, BufferBudget
from sallyport.problem import Code
from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.framing import request_reader

if TYPE_CHECKING:
    import asyncio

    from gateway.serve import Exchange

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class KeptBodies:
    """Each sandbox's share of the budget. Always: a share stands here as long as a body counts in it."""

    def __init__(self, whole: BufferBudget | None = None, share_bytes: int = DEFAULT_BUDGET_BYTES) -> None:
        self._whole = whole
        self._share_bytes = share_bytes
        self._shares: dict[str, BufferBudget] = {}
        self._users: Counter[str] = Counter()

    def enter(self, sandbox_id: str) -> BufferBudget:
        """Return the share of a sandbox, for one body more."""
        self._users[sandbox_id] += 1
        return self._shares.setdefault(sandbox_id, BufferBudget(self._share_bytes, self._whole))

    def leave(self, sandbox_id: str) -> None:
        """Note that a body counts no longer."""
        self._users[sandbox_id] -= 1
        if not self._users[sandbox_id]:
            del self._users[sandbox_id]
            self._shares.pop(sandbox_id).close()

    def __repr__(self) -> str:
        return f"<KeptBodies of {len(self._shares)} sandboxes>"


class KeptBody:
    """The body of one exchange. Always: what it holds counts in its share until release(), which comes once or more."""

    def __init__(self, exchange: "Exchange", sandbox_id: str) -> None:
        """Raises Refused where the head says already that the body is too large."""
        self._exchange = exchange
        self._sandbox_id = sandbox_id
        parts = exchange.parts
        self._limit: int = parts.limits.signed_body_bytes
        if exchange.head.body > self._limit:
            raise Refused(signed_body_too_large(self._limit))
        self._kept = bytearray()
        self._hash = hashlib.sha256()
        self._reader = request_reader(exchange.head)
        self._whole: asyncio.Future[Payload | None] = parts.loop.create_future()
        self._share: BufferBudget | None = parts.kept_bodies.enter(sandbox_id)

    async def read(self) -> Payload | None:
        """Wait until the body is here; None where the exchange ended meanwhile."""
        exchange = self._exchange
        if exchange.head.expects_continue:
            # Nobody else would say it: the upstream hears of the request when the body is here (S8).
            exchange.head.expects_continue = False
            exchange.stream.write(CONTINUE)
        exchange.wants_body = True
        exchange.stream.feed_exchange()
        return await self._whole

    def received(self, data: bytes) -> bytes:
        """Keep a piece; returns what stood behind the body's end. A faulty one ends the exchange."""
        exchange, reader, share = self._exchange, self._reader, self._share
        if share is None:
            return data
        try:
            payload = reader.feed(data)
        except RemoteProtocolError as error:
            exchange.fail(Deny(code=Code.INVALID_REQUEST, detail=f"the request body is malformed: {error.reason}"))
            return b""
        if payload:
            refusal = self._keep(payload, share)
            if refusal is not None:
                exchange.fail(refusal)
            if self._share is None:
                return b""
        if not reader.done:
            return b""
        # It goes on in one piece, so its length is known; trailers, which nobody signs, end here (RFC 9110 6.5.1).
        exchange.head.body = len(self._kept)
        exchange.request_ended()
        self._whole.set_result(Payload(self._hash.hexdigest().encode("ascii"), is_told=False))
        return reader.rest

    def _keep(self, payload: bytes, share: BufferBudget) -> Deny | None:
        exchange = self._exchange
        exchange.bytes_up += len(payload)
        route_limit = None if exchange.route is None else exchange.route.max_body_bytes
        if exchange.max_body_bytes is not None and exchange.bytes_up > exchange.max_body_bytes:
            return body_too_large(exchange.max_body_bytes, route_limit)
        if exchange.bytes_up > self._limit:
            return signed_body_too_large(self._limit)
        if share.is_over or share.held + len(payload) > share.limit:
            return kept_bodies_are_full()
        if exchange.capture is not None:
            exchange.capture.request_body(payload)
        self._kept += payload
        self._hash.update(payload)
        share.hold(self, len(payload))
        return None

    def write_to(self, link: UpstreamLink) -> None:
        """Send it behind its head. It counts on: a slow upstream leaves it in the link's buffer."""
        if self._kept:
            link.transport.write(bytes(self._kept))
            self._kept.clear()

    def release(self) -> None:
        """The exchange is over, or was reset: count no longer, and let nobody wait."""
        share, self._share = self._share, None
        if share is None:
            return
        share.forget(self)
        self._exchange.parts.kept_bodies.leave(self._sandbox_id)
        self._kept.clear()
        if not self._whole.done():
            self._whole.set_result(None)

    # What the budget calls

    def release_credit(self) -> None:
        """Nothing is ever withheld for it."""

    def evict(self) -> None:
        """Nobody's stream holds more."""
        self.release()
        self._exchange.stream.abort()

    @property
    def held_bytes(self) -> int:
        """What waits here."""
        return len(self._kept)

    def __repr__(self) -> str:
        return f"<KeptBody {'whole' if self._reader.done else 'under way'}: {len(self._kept)} bytes>"
