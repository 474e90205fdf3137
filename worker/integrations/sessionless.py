"""What the front does for a program that knows no sessions (protocol 2026-07-28): its requests stand alone.

Each says all that is needed to answer it, so everybody's are put to the one process that the worker has. A program that
knows `initialize` as well is not served like this: its clients begin a session, which can do more.
"""

import json
from collections.abc import Mapping
from typing import Any, Final, Protocol

from mcp.shared.dispatcher import ProgressFnT
from mcp.shared.exceptions import MCPError

from sallyport.mcp.exchange import Exchange, McpRequest, Refused
from sallyport.problem import Code
from sallyport.wire.json_rpc import Kind, read_message

# The protocol's own members of `_meta` belong to one hop.
_OF_THE_PROTOCOL: Final = "io.modelcontextprotocol/"


class Ask(Protocol):
    """How a program is asked."""

    async def __call__(
        self, method: str, params: Mapping[str, object] | None, on_progress: ProgressFnT | None
    ) -> dict[str, Any]:
        """Put a request and return its result; raises MCPError."""


async def answer_alone(exchange: Exchange, request: McpRequest, ask: Ask) -> None:
    """Answer one request; raises Refused."""
    if request.method != "POST":
        raise Refused(405, "method_not_allowed", "use POST: this server knows no sessions")
    asked = read_message(request.body)
    if asked is None:
        raise Refused.of(Code.INVALID_REQUEST, "the body is not one JSON-RPC message")
    if asked.kind is not Kind.REQUEST:
        await exchange.accept()
        return
    document = json.loads(asked.line)
    params = document.get("params") or {}
    meta = (params.pop("_meta", None) or {}) if isinstance(params, dict) else None
    if not isinstance(meta, dict):
        raise Refused.of(Code.INVALID_REQUEST, "params, and _meta in them, are objects")
    token = meta.pop("progressToken", None)
    kept = {name: value for name, value in meta.items() if not name.startswith(_OF_THE_PROTOCOL)}
    if kept:
        params["_meta"] = kept

    async def tell(progress: float, total: float | None, message: str | None) -> None:
        told = {"progressToken": token, "progress": progress, "total": total, "message": message}
        said = {name: value for name, value in told.items() if value is not None}
        await exchange.event(_line(method="notifications/progress", params=said))

    if token is not None:
        await exchange.begin_events()
    try:
        result = await ask(asked.method, params or None, None if token is None else tell)
        line = _line(id=document["id"], result=result)
    except MCPError as error:
        line = _line(id=document["id"], error=error.error.model_dump(mode="json", exclude_none=True))
    if token is None:
        await exchange.answer(line)
        return
    await exchange.event(line)
    await exchange.end_events()


def _line(**members: object) -> bytes:
    # By escapes: half of a surrogate pair is a text of JSON, and none of UTF-8.
    return json.dumps({"jsonrpc": "2.0", **members}, separators=(",", ":")).encode("ascii")
