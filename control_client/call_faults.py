"""What goes wrong between this client and a server, turned into answers of the one call that it befell.

The SDK's transport ends a whole connection, with every call on it, when one request of it finds no server. Here such a
request is answered instead: by an error of the protocol whose code says whether the server can have begun the call.
"""

import json
from typing import Final

import httpx2

# Codes that the specification leaves to implementations; the server's own never come through as these.
NOT_BEGUN: Final = -32091
NOT_ACCEPTED: Final = -32092
CUT_OFF: Final = -32093
UNREADABLE: Final = -32094

# An answer that is one document is held whole, here and by the SDK.
MAX_DOCUMENT_BYTES: Final = 16 * 1024 * 1024

_SESSION: Final = "mcp-session-id"


class AnsweredFaults(httpx2.AsyncBaseTransport):
    """Answer what a POST meets; other requests of the SDK bear their own faults."""

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request; raises httpx2.TransportError for other methods than POST."""
        if request.method != "POST":
            return await self._inner.handle_async_request(request)
        try:
            response = await self._inner.handle_async_request(request)
            return await _whole(request, response)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            return _fault(request, NOT_BEGUN, type(error).__name__)
        except httpx2.LocalProtocolError as error:
            return _fault(request, UNREADABLE, type(error).__name__)  # ours, and not sent
        except httpx2.TransportError as error:
            return _fault(request, CUT_OFF, type(error).__name__)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._inner.aclose()


async def _whole(request: httpx2.Request, response: httpx2.Response) -> httpx2.Response:
    """Return an answer that is a document with all of its bytes, and any other as it is; raises TransportError."""
    fault: tuple[int, str] | None = None
    if response.status_code == 404 and _SESSION in request.headers:
        # A server that was started anew does not know the session, and says so before it looks at the call.
        fault = NOT_BEGUN, "status 404"
    elif response.status_code in (401, 403):
        fault = NOT_ACCEPTED, f"status {response.status_code}"
    elif "content-encoding" in response.headers:
        fault = UNREADABLE, "a coded answer, which was not asked for"
    elif response.headers.get("content-type", "").lower().startswith("application/json"):
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > MAX_DOCUMENT_BYTES:
                fault = UNREADABLE, f"more than {MAX_DOCUMENT_BYTES >> 20} MiB"
                break
        else:
            await response.aclose()
            return httpx2.Response(response.status_code, headers=response.headers, content=bytes(body), request=request)
    if fault is None:
        return response
    await response.aclose()
    return _fault(request, *fault)


def _fault(request: httpx2.Request, code: int, message: str) -> httpx2.Response:
    # The SDK puts the call's own id in the place of null.
    document = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message}}
    fields = {"Content-Type": "application/json"}
    return httpx2.Response(503, headers=fields, content=json.dumps(document).encode("utf-8"), request=request)
