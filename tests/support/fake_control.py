"""A control plane for tests, over real HTTP: it does as it is told, and can be slow, wrong, huge, cut short or away.

What a test sets by attribute is what is answered; what was asked is kept. `misbehave` puts a wrong answer in front of a
path. Stop it and start it again at the same port with `away`.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from sallyport.net.interception import CaStore
from sallyport.plan.codec import parse_plan
from tests.support.refusing_port import refusing_port
from tests.support.signed_tokens import KEY, jwk

type Document = dict[str, Any]
type Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

SERVICE_TOKEN = "service-token-of-the-gateway"


class FakeControl:
    """One scripted control plane on loopback."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.tokens = {SERVICE_TOKEN}
        self.keys: list[Document] = [jwk(KEY, kid="fake")]
        self.plans: dict[str, bytes] = {}
        self.revocations: list[Document] = []
        self.credentials: dict[str, Document] = {}  # by connection id, or by sandbox and connection: "sbx/con"
        self.authorities: dict[str, Document] = {}
        self.superseded: list[str] = []
        self.declared: list[Document] = []  # what every worker is to have installed
        self.asked: list[tuple[str, str, Document]] = []  # method, path, body
        self.resumed: list[str | None] = []  # Last-Event-ID of each watch stream
        self.events: list[tuple[int, str, Document]] = []
        self.oldest_event = 1
        self.heartbeat_seconds = 0.05
        self._wrong: dict[str, list[Answer]] = {}
        self._news = asyncio.Condition()
        self._streams: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def token_file(self, folder: Path) -> Path:
        """Write a service token that is accepted."""
        path = folder / "service.token"
        path.write_text(f"{SERVICE_TOKEN}\n")
        return path

    # What it does -----------------------------------------------------------------------------------

    def misbehave(self, path: str, *answers: Answer) -> None:
        """Answer the next requests for a path, one each, in another way."""
        self._wrong.setdefault(path, []).extend(answers)

    def behave(self, path: str) -> None:
        """Answer a path as it should be from now on, whatever was still to come."""
        self._wrong.pop(path, None)

    def announced(self, sandbox_id: str) -> Document:
        """Return how a plan is announced."""
        plan = parse_plan(self.plans[sandbox_id])
        return {"sandboxId": sandbox_id, "revision": plan.revision, "digest": plan.digest}

    async def publish(self, document: bytes, *, silently: bool = False) -> None:
        """Take a plan and announce it."""
        sandbox_id = parse_plan(document).sandbox_id
        self.plans[sandbox_id] = document
        if not silently:
            await self.tell("plan", self.announced(sandbox_id))

    async def remove(self, sandbox_id: str) -> None:
        """Take a plan away."""
        del self.plans[sandbox_id]
        await self.tell("plan_removed", {"sandboxId": sandbox_id})

    async def revoke(self, kind: str, revoked_id: str, until: int) -> None:
        """Revoke."""
        revocation = {"kind": kind, "id": revoked_id, "until": until}
        self.revocations.append(revocation)
        await self.tell("revocation", revocation)

    async def tell(self, name: str, document: Document) -> None:
        """Send an event to every watch stream."""
        async with self._news:
            self.events.append((len(self.events) + 1, name, document))
            self._news.notify_all()

    def count(self, path: str) -> int:
        """Say how often a path was asked for."""
        return sum(asked == path for _, asked, _ in self.asked)

    def bodies(self, path: str) -> list[Document]:
        """Return what a path was asked with."""
        return [body for _, asked, body in self.asked if asked == path]

    # Its life ---------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen, at the port that is held for it."""
        app = web.Application(middlewares=[self._guard])
        app.add_routes(
            [
                web.get("/.well-known/jwks.json", self._keys),
                web.get("/internal/plans/watch", self._watch),
                web.get("/internal/sandboxes/{sandbox}/plan", self._plan),
                web.get("/internal/sandboxes/{sandbox}/interception-ca", self._authority),
                web.post("/internal/sandboxes/{sandbox}/tokens", self._tokens),
                web.post("/internal/integration-credentials/resolve", self._resolve),
                web.put("/internal/gateways/{gateway}/lease", self._lease),
                web.put("/internal/v1/workers/{worker}", self._worker),
                web.delete("/internal/v1/workers/{worker}", self._worker),
                web.get("/internal/v1/workers/{worker}/declared", self._declared),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True, reuse_port=True)
        await site.start()

    async def stop(self) -> None:
        """Go away, streams and all."""
        for stream in list(self._streams):
            stream.cancel()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @contextlib.asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        """Be away while the block runs."""
        await self.stop()
        yield
        await self.start()

    def cut_streams(self) -> int:
        """End every watch stream; return how many there were."""
        streams = list(self._streams)
        for stream in streams:
            stream.cancel()
        return len(streams)

    # Answers ----------------------------------------------------------------------------------------

    @web.middleware
    async def _guard(self, request: web.Request, handler: Answer) -> web.StreamResponse:
        body = await request.read()
        self.asked.append((request.method, request.path, json.loads(body) if body else {}))
        wrong = self._wrong.get(request.path)
        if wrong:
            return await wrong.pop(0)(request)
        authorization = request.headers.get("Authorization", "")
        if request.path.startswith("/internal/") and authorization.removeprefix("Bearer ") not in self.tokens:
            return problem(401, "unauthorized")
        return await handler(request)

    async def _keys(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"keys": self.keys})

    async def _plan(self, request: web.Request) -> web.StreamResponse:
        document = self.plans.get(request.match_info["sandbox"])
        if document is None:
            return problem(404, "plan_not_found")
        return web.Response(body=document, content_type="application/json")

    async def _worker(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"expiresInSeconds": 30}) if request.method == "PUT" else web.Response(status=204)

    async def _declared(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"servers": self.declared})

    async def _authority(self, request: web.Request) -> web.StreamResponse:
        found = self.authorities.get(request.match_info["sandbox"])
        return problem(404, "sandbox_not_found") if found is None else web.json_response(found)

    async def _tokens(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        return web.json_response(
            {
                "requestId": asked["requestId"],
                "token": f"token of {request.match_info['sandbox']}".replace(" ", "-"),
                "expiresAt": 2_000_000_000,
                "renewalToken": "renewal-token",
                "renewalExpiresAt": 2_000_086_400,
            }
        )

    async def _resolve(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        connection_id = asked["connectionId"]
        found = self.credentials.get(f"{asked['sandboxId']}/{connection_id}") or self.credentials.get(connection_id)
        return problem(404, "connection_not_found") if found is None else web.json_response(found)

    async def _lease(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"expiresInSeconds": 30, "superseded": self.superseded})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        try:
            return await self._stream(request)
        except ConnectionResetError:
            return web.Response()  # whoever watched has gone
        finally:
            self._streams.discard(task)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        resumed = request.headers.get("Last-Event-ID")
        self.resumed.append(resumed)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        if resumed is not None and int(resumed) >= self.oldest_event - 1:
            sent = int(resumed)
        else:
            sent = len(self.events)
            snapshot = {
                "plans": [self.announced(sandbox_id) for sandbox_id in self.plans],
                "revocations": self.revocations,
            }
            await response.write(event("snapshot", snapshot, sent))
        while True:
            for number, name, document in self.events[sent:]:
                await response.write(event(name, document, number))
                sent = number
            try:
                async with asyncio.timeout(self.heartbeat_seconds), self._news:
                    await self._news.wait_for(lambda: len(self.events) > sent)  # noqa: B023  waited for at once
            except TimeoutError:
                await response.write(b": heartbeat\n\n")


def event(name: str, document: Document, number: int | None = None) -> bytes:
    """Return one event as it is sent."""
    head = b"" if number is None else f"id: {number}\n".encode()
    return head + f"event: {name}\ndata: {json.dumps(document)}\n\n".encode()


def problem(status: int, code: str, **headers: str) -> web.Response:
    """Return a problem document."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.json_response(
        {"status": status, "code": code}, status=status, headers=named, content_type="application/problem+json"
    )


def answer(status: int, body: bytes = b"", **headers: str) -> Answer:
    """Answer with these very bytes."""

    async def wrong(_: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, body=body, headers=named)

    return wrong


def refusal(status: int, code: str, **headers: str) -> Answer:
    """Answer with a problem."""

    async def wrong(_: web.Request) -> web.StreamResponse:
        return problem(status, code, **headers)

    return wrong


async def hang(_: web.Request) -> web.StreamResponse:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


async def hang_up(request: web.Request) -> web.StreamResponse:
    """Close without a word."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def break_off(request: web.Request) -> web.StreamResponse:
    """Promise more than is sent."""
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"kind": "val')
    assert request.transport is not None
    request.transport.abort()
    return response


def stream(*pieces: bytes) -> Answer:
    """Answer as an event stream of these bytes, and end."""

    async def wrong(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
        return response

    return wrong


def authority_document(folder: Path, sandbox_id: str) -> Document:
    """Make the interception authority of a sandbox, and say it as a control plane does."""
    CaStore(folder).authority(sandbox_id, time.time_ns() / 1e9)
    return {
        "certificatePem": (folder / f"{sandbox_id}.pem").read_text(),
        "privateKeyPem": (folder / f"{sandbox_id}.key").read_text(),
        "notAfter": 2_000_000_000,
    }


@contextlib.asynccontextmanager
async def fake_control() -> AsyncIterator[FakeControl]:
    """Run one until the block ends."""
    with refusing_port() as port:  # nobody else's while it is away
        fake = FakeControl(port)
        await fake.start()
        try:
            yield fake
        finally:
            await fake.stop()
