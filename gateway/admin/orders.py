"""What the parent of several processes orders of one that serves (gateway/processes), under `/internal/`.

These routes exist on the socket of a serving process only, which its parent alone can reach. What the parent orders is
checked already, so a refusal here is a defect: the parent ends the process and starts another.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from aiohttp import web

from gateway.admin.bodies import read_body, read_order, word
from gateway.admin.refusals import AdminCode, Refused
from gateway.core.plan_turns import PlanTurns
from gateway.keys import MAX_JWKS_BYTES, KeyRing, KeySet, KeySetError
from gateway.parts import GatewayParts
from gateway.plan_holder import PlanConflict, PlanHolder, PlanLimitError
from gateway.processes.reports import Reports
from sallyport.plan.codec import PlanError
from sallyport.problem import Code


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderParts:
    """What orders act on. parts is asked per order; serve begins to accept; settled ends the wait for a plan."""

    plans: PlanHolder
    keys: KeyRing
    reports: Reports
    parts: Callable[[], GatewayParts]
    serve: Callable[[], Awaitable[None]]
    settled: Callable[[str], None]
    max_plan_bytes: int


def order_routes(parts: OrderParts) -> Sequence[web.AbstractRouteDef]:
    """Return the routes to add to the admin application of a serving process."""
    orders = _Orders(parts)
    return [
        web.put("/internal/plans/{sandbox_id}", orders.put_plan),
        web.delete("/internal/plans/{sandbox_id}", orders.remove_plan),
        web.put("/internal/ahead/{sandbox_id}", orders.put_plan_ahead),
        web.delete("/internal/ahead/{sandbox_id}", orders.remove_plan_ahead),
        web.post("/internal/plans/{sandbox_id}/settled", orders.settled),
        web.post("/internal/plans-withheld", orders.withhold),
        web.put("/internal/keys", orders.keys),
        web.post("/internal/superseded", orders.superseded),
        web.post("/internal/serve", orders.serve),
        web.get("/internal/reports", orders.reports),
    ]


class _Orders:
    """The handlers, in the order of their routes."""

    def __init__(self, parts: OrderParts) -> None:
        self._parts = parts
        self._turns = PlanTurns()
        # Either of the two orders of a change may come first; who comes behind is answered when it is in force.
        self._in_turn, self._ahead = _Working(), _Working()

    async def put_plan(self, request: web.Request) -> web.Response:
        sandbox_id, change = request.match_info["sandbox_id"], _change(request)
        body = await read_body(request, self._parts.max_plan_bytes)
        await self._ahead.wait(change)
        if self._turns.take(sandbox_id, change):
            with self._in_turn.on(change):
                await self._apply(sandbox_id, change, body)
        return web.Response(status=204)

    async def put_plan_ahead(self, request: web.Request) -> web.Response:
        sandbox_id, change = request.match_info["sandbox_id"], _change(request)
        body = await read_body(request, self._parts.max_plan_bytes)
        if self._turns.come_ahead(sandbox_id, change):
            with self._ahead.on(change):
                await self._apply(sandbox_id, change, body)
        else:
            await self._in_turn.wait(change)
        return web.Response(status=204)

    async def _apply(self, sandbox_id: str, change: int, body: bytes) -> None:
        plans = self._parts.plans
        try:
            prepared = await plans.compile(body, sandbox_id)
            if not self._turns.is_void(sandbox_id, change):
                plans.commit(prepared, sandbox_id=sandbox_id)
        except (PlanError, PlanConflict, PlanLimitError) as error:
            raise Refused(AdminCode.INVALID_PLAN, str(error)[:500]) from None

    async def remove_plan(self, request: web.Request) -> web.Response:
        sandbox_id = request.match_info["sandbox_id"]
        if self._turns.take(sandbox_id, _change(request)):
            self._parts.plans.remove(sandbox_id)
        return web.Response(status=204)

    async def remove_plan_ahead(self, request: web.Request) -> web.Response:
        sandbox_id = request.match_info["sandbox_id"]
        if self._turns.come_ahead(sandbox_id, _change(request)):
            self._parts.plans.remove(sandbox_id)
        return web.Response(status=204)

    async def settled(self, request: web.Request) -> web.Response:
        self._parts.settled(request.match_info["sandbox_id"])
        return web.Response(status=204)

    async def withhold(self, request: web.Request) -> web.Response:
        order = await read_order(request, {"withheld"})
        if word(order, "withheld", ("yes", "no")) == "yes":
            self._parts.plans.withhold()
        else:
            self._parts.plans.release()
        return web.Response(status=204)

    async def keys(self, request: web.Request) -> web.Response:
        try:
            self._parts.keys.replace(KeySet.from_jwks(await read_body(request, MAX_JWKS_BYTES)))
        except KeySetError as error:
            raise Refused(Code.INVALID_REQUEST, str(error)) from None
        return web.Response(status=204)

    async def superseded(self, request: web.Request) -> web.Response:
        order = await read_order(request, {"sandboxId", "epoch"})
        tunnels, sandbox_id = self._parts.parts().tunnels, word(order, "sandboxId")
        host = tunnels.current(sandbox_id)
        # Only the tunnel that was meant: the sandbox may have come back here meanwhile.
        if host is not None and host.epoch == order.get("epoch"):
            tunnels.close_superseded(sandbox_id)
        return web.Response(status=204)

    async def serve(self, _: web.Request) -> web.Response:
        await self._parts.serve()
        return web.Response(status=204)

    async def reports(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        reports = self._parts.reports.lines(self._parts.parts())
        # The parent may have gone; this process ends by another sign of that.
        async with contextlib.aclosing(reports):
            with contextlib.suppress(ConnectionError):
                async for lines in reports:
                    await response.write(lines)
        return response


class _Working:
    """The changes whose plans are compiled now: one for each lane, because a lane takes its orders one by one."""

    def __init__(self) -> None:
        self._over: dict[int, asyncio.Event] = {}

    @contextlib.contextmanager
    def on(self, change: int) -> Iterator[None]:
        """Work on a change while the block runs."""
        over = self._over[change] = asyncio.Event()
        try:
            yield
        finally:
            del self._over[change]
            over.set()

    async def wait(self, change: int) -> None:
        """Wait for the end of the work on a change, if there is any."""
        over = self._over.get(change)
        if over is not None:
            await over.wait()


def _change(request: web.Request) -> int:
    """Return the number of a plan's change."""
    number = request.query.get("change", "")
    if not number.isdecimal():
        raise Refused(Code.INVALID_REQUEST, "?change=: the number of the change is missing")
    return int(number)
