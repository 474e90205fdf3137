"""Stands in for the control plane where a cold credential is measured: one plan, one credential, and it counts.

Run by the benchmark, which writes one line of JSON (`{"plan", "jwk", "credential", "service_token"}`) and reads one
(`{"port"}`) back; each further line is answered by `{"resolutions"}`, how many were asked for so far. It ends when
standard input does. Each resolution takes as long as one by way of a database and a provider does, so that all
requests are there before it is answered.
"""

import asyncio
import json
import sys
from typing import Any

from aiohttp import web

from benchmarks.lines import open_stdin

_RESOLUTION_SECONDS = 0.25
_HEARTBEAT_SECONDS = 5.0


class ControlEnd:
    """What one gateway asks."""

    def __init__(self, told: dict[str, Any]) -> None:
        self._plan: str = told["plan"]
        self._jwk = told["jwk"]
        self._credential = told["credential"]
        self._authorization = f"Bearer {told['service_token']}"
        self.resolutions = 0

    def application(self) -> web.Application:
        application = web.Application(middlewares=[self._guard])
        application.add_routes(
            [
                web.get("/.well-known/jwks.json", self._keys),
                web.get("/internal/plans/watch", self._watch),
                web.get("/internal/sandboxes/{sandbox}/plan", self._give_plan),
                web.put("/internal/gateways/{gateway}/lease", self._lease),
                web.post("/internal/integration-credentials/resolve", self._resolve),
            ]
        )
        return application

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:  # noqa: ANN401 - as aiohttp has it
        if request.path.startswith("/internal/") and request.headers.get("Authorization") != self._authorization:
            return web.json_response({"code": "unauthorized"}, status=401)
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _keys(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"keys": [self._jwk]})

    async def _give_plan(self, _: web.Request) -> web.StreamResponse:
        return web.Response(text=self._plan, content_type="application/json")

    async def _lease(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"expiresInSeconds": 30, "superseded": []})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        plan = json.loads(self._plan)
        announced = {name: plan[name] for name in ("sandboxId", "revision", "digest")}
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        snapshot = json.dumps({"plans": [announced], "revocations": []})
        await answer.write(f"id: 0\nevent: snapshot\ndata: {snapshot}\n\n".encode())
        try:
            while True:
                await asyncio.sleep(_HEARTBEAT_SECONDS)
                await answer.write(b": heartbeat\n\n")
        except ConnectionResetError:
            return answer  # the gateway has gone

    async def _resolve(self, _: web.Request) -> web.StreamResponse:
        self.resolutions += 1
        await asyncio.sleep(_RESOLUTION_SECONDS)
        return web.json_response({"kind": "value", "value": self._credential, "version": "1"})


async def serve() -> None:
    stdin = await open_stdin()
    end = ControlEnd(json.loads(await stdin.readline()))
    runner = web.AppRunner(end.application(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    _say({"port": runner.addresses[0][1]})
    while await stdin.readline():
        _say({"resolutions": end.resolutions})
    await runner.cleanup()


def _say(document: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(serve())
