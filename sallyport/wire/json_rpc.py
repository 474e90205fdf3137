"""JSON-RPC messages, as far as whoever carries them has to know: what kind each is, and what it belongs to.

The text goes on as it came; only what would break a line is taken out, which JSON allows between its tokens alone.
"""

import json
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, NoReturn

# What the specification has for requests that are none, and for failures of whoever carries a request.
INVALID_REQUEST: Final = -32600
SERVER_ERROR: Final = -32000


class Kind(Enum):
    """A request wants a response; a notification does not."""

    REQUEST = "request"
    NOTIFICATION = "notification"
    RESPONSE = "response"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message on one line. Ids and tokens are JSON texts: 1 and "1" differ.

    `id` is that of a request or response. `progress_token` is what a request wants to hear of its progress by, or what
    a notification says whose progress it tells. `cancels` is the id of the request that a notification gives up.
    """

    line: bytes
    kind: Kind
    method: str = ""
    id: str | None = None
    is_error: bool = False
    progress_token: str | None = None
    cancels: str | None = None


def read_message(data: bytes) -> Message | None:
    """Read one message; None for anything else, an array of messages too."""
    try:
        document = json.loads(data.decode("utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or document.get("jsonrpc") != "2.0":
        return None
    line = data.replace(b"\r", b" ").replace(b"\n", b" ").strip()
    identity, method = _text(document.get("id")), document.get("method")
    if method is None:
        is_answer = "result" in document or "error" in document
        # An error without an id answers a request that could not be read.
        is_error = "error" in document
        return Message(line=line, kind=Kind.RESPONSE, id=identity, is_error=is_error) if is_answer else None
    if not isinstance(method, str) or ("id" in document and identity is None):
        return None
    params = document.get("params")
    params = params if isinstance(params, dict) else {}
    if identity is not None:
        meta = params.get("_meta")
        token = _text(meta.get("progressToken")) if isinstance(meta, dict) else None
        return Message(line=line, kind=Kind.REQUEST, method=method, id=identity, progress_token=token)
    return Message(
        line=line,
        kind=Kind.NOTIFICATION,
        method=method,
        progress_token=_text(params.get("progressToken")) if method == "notifications/progress" else None,
        cancels=_text(params.get("requestId")) if method == "notifications/cancelled" else None,
    )


def error_response(identity: str | None, code: int, message: str, data: dict[str, object] | None = None) -> bytes:
    """Write the error that a request is answered with in a server's place."""
    error = {"code": code, "message": message} | ({"data": data} if data else {})
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % ((identity or "null").encode(), json.dumps(error).encode())


def _text(value: Any) -> str | None:  # noqa: ANN401  of a JSON document
    return json.dumps(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"no JSON: {text}")
