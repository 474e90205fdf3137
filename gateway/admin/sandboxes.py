"""The sandboxes of this gateway, and the set-up that is handed to one through its tunnel (contracts section 10)."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import structlog
from aiohttp import web

from gateway.admin.bodies import read_body
from gateway.admin.refusals import AdminCode, Refused
from gateway.admin.relays import Relays, opened
from gateway.parts import GatewayParts
from gateway.tunnel_host import TunnelHost
from sallyport.setup import MAX_SETUP_BYTES, SetupDocument, SetupError, parse_setup, setup_digest

_log = structlog.get_logger(__name__)

# The document is written at the speed of the tunnel; 2 MiB in this time is a modem's.
WRITE_SECONDS: Final = 60.0


def sandbox_routes(parts: Callable[[], GatewayParts]) -> Sequence[web.AbstractRouteDef]:
    """Return the routes; parts is asked per request, because the listener is opened before there are any."""
    sandboxes, relays = _Sandboxes(parts), Relays(parts)
    one = "/v1/sandboxes/{sandbox_id}"
    return [
        web.get("/v1/sandboxes", sandboxes.listed),
        web.put(f"{one}/setup", sandboxes.put_setup),
        web.get(f"{one}/setup", sandboxes.get_setup),
        web.get(f"{one}/endpoints/{{client_id}}/{{endpoint_key}}", relays.endpoint),
        *(web.route(method, f"{one}/mcp/{{server_id}}", relays.mcp) for method in ("GET", "POST", "DELETE")),
    ]


class _Sandboxes:
    """The handlers, in the order of their routes."""

    def __init__(self, parts: Callable[[], GatewayParts]) -> None:
        self._parts = parts

    async def listed(self, _: web.Request) -> web.Response:
        """List every sandbox with a plan, a tunnel or an open stream."""
        parts = self._parts()
        tunnelled = [sandbox_id for sandbox_id, _ in parts.tunnels.sandboxes()]
        known = {table.sandbox_id for table in parts.plans.tables()} | {*parts.streams.sandboxes()} | {*tunnelled}
        return web.json_response({"items": [_describe(parts, sandbox_id) for sandbox_id in sorted(known)]})

    async def put_setup(self, request: web.Request) -> web.Response:
        """Announce a set-up and hand it over; what becomes of it is told by setup.status."""
        parts, sandbox_id = self._parts(), request.match_info["sandbox_id"]
        _tunnel(parts, sandbox_id)
        body = await read_body(request, MAX_SETUP_BYTES)
        document = await _parsed(body)
        if document.sandbox_id != sandbox_id:
            raise Refused(AdminCode.SETUP_CONFLICT, f"the set-up is for sandbox {document.sandbox_id}")
        digest = setup_digest(body)
        announced = {"revision": document.revision, "digest": digest, "sizeBytes": len(body)}
        _tunnel(parts, sandbox_id).tunnel.send_control({"type": "setup.apply", **announced})
        stream = await opened(parts, sandbox_id, f"setup/{document.revision}")
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                stream.writer.write(body)
                stream.writer.write_eof()
                await stream.writer.drain()
        except TimeoutError:
            stream.abort()
            raise Refused(AdminCode.SANDBOX_TIMEOUT, "the sandbox does not take the set-up") from None
        except ConnectionError:
            stream.abort()
            raise Refused(AdminCode.SANDBOX_REFUSED, "the tunnel ended while the set-up was handed over") from None
        stream.close()
        _log.info("setup_handed_over", sandbox_id=sandbox_id, revision=document.revision, digest=digest)
        return web.json_response({"sandboxId": sandbox_id, **announced}, status=202)

    async def get_setup(self, request: web.Request) -> web.Response:
        """Return the last setup.status of the sandbox."""
        status = _tunnel(self._parts(), request.match_info["sandbox_id"]).setup_status
        if status is None:
            raise Refused(AdminCode.NOT_FOUND, "the sandbox has told no status of a set-up yet")
        return web.json_response(status)


def _tunnel(parts: GatewayParts, sandbox_id: str) -> TunnelHost:
    host = parts.tunnels.current(sandbox_id)
    if host is None:
        raise Refused(AdminCode.NO_TUNNEL, "the sandbox has no tunnel to this gateway now")
    return host


async def _parsed(body: bytes) -> SetupDocument:
    try:
        # On a thread, so that requests are served between the interpreter's switches.
        return await asyncio.to_thread(parse_setup, body)
    except SetupError as error:
        issues = [issue.to_document() for issue in error.issues]
        raise Refused(AdminCode.INVALID_SETUP, f"{len(issues)} issues; nothing was sent", issues=issues) from None


def _describe(parts: GatewayParts, sandbox_id: str) -> dict[str, object]:
    table, host = parts.plans.loaded(sandbox_id), parts.tunnels.current(sandbox_id)
    streams = parts.streams.of_sandbox(sandbox_id)
    owners = [each.claims.organization_id for each in streams if each.claims is not None]
    return {
        "sandboxId": sandbox_id,
        "organizationId": owners[0] if table is None and owners else None if table is None else table.organization_id,
        "tunnel": host is not None,
        "streams": sum(each.is_of_sandbox for each in streams),
        "planRevision": None if table is None else table.revision,
    }
