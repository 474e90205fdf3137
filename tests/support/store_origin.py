"""An object store as boto3 speaks with one: put, get, and uploads in parts; behind a bearer token."""

import hashlib
from collections.abc import Iterator
from xml.sax.saxutils import escape

from aiohttp import web

from demo.ledger import Expected, Ledger, Presence, guarded_application

STORE_HOST = "store.example.com"


def store_application(ledger: Ledger, token: str) -> web.Application:
    """Return a store that keeps objects in memory and accepts a bearer token and nothing else."""
    application = guarded_application(ledger, Expected(header="Authorization", value=f"Bearer {token}"), _refuse)
    store = Store()
    application.router.add_put("/{key:.+}", store.put)
    application.router.add_get("/{key:.+}", store.get)
    application.router.add_post("/{key:.+}", store.post)
    return application


class Store:
    """Objects in memory, by the path they were put at."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}
        self._parts: dict[str, dict[int, bytes]] = {}

    async def put(self, request: web.Request) -> web.Response:
        body = _unchunked(request, await request.read())
        key = request.match_info["key"]
        if "partNumber" in request.query:
            self._parts.setdefault(request.query["uploadId"], {})[int(request.query["partNumber"])] = body
        else:
            self._objects[key] = body
        return web.Response(headers={"ETag": f'"{hashlib.md5(body).hexdigest()}"'})

    async def get(self, request: web.Request) -> web.Response:
        body = self._objects.get(request.match_info["key"])
        if body is None:
            return web.Response(status=404, text="<Error><Code>NoSuchKey</Code></Error>", content_type="text/xml")
        return web.Response(body=body, headers={"ETag": f'"{hashlib.md5(body).hexdigest()}"'})

    async def post(self, request: web.Request) -> web.Response:
        key = request.match_info["key"]
        await request.read()
        if "uploads" in request.query:
            answer = _document("InitiateMultipartUploadResult", Key=key, UploadId="one")
        else:
            parts = self._parts.pop(request.query["uploadId"])
            self._objects[key] = b"".join(parts[number] for number in sorted(parts))
            answer = _document("CompleteMultipartUploadResult", Key=key, ETag='"whole"')
        return web.Response(text=answer, content_type="text/xml")


def _document(name: str, **members: str) -> str:
    return f"<{name}>{''.join(f'<{key}>{escape(text)}</{key}>' for key, text in members.items())}</{name}>"


def _unchunked(request: web.Request, body: bytes) -> bytes:
    """Take off the chunks in which AWS clients sign a body as it streams."""
    if "aws-chunked" not in request.headers.get("Content-Encoding", ""):
        return body
    return b"".join(_chunks(body))


def _chunks(body: bytes) -> Iterator[bytes]:
    while True:
        line, _, body = body.partition(b"\r\n")
        size = int(line.partition(b";")[0], 16)
        if not size:
            return
        yield body[:size]
        body = body[size + 2 :]


def _refuse(request: web.Request, presence: Presence) -> web.Response:
    return web.Response(status=401, text=f"credential {presence.value}")
