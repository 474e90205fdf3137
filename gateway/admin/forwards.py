"""The admin surface of a gateway of several processes, where its parent cannot answer by itself.

What is in a sandbox is reached at the process that has its tunnel: requests go there and answers come back as they are.
Lists and recordings are those of all processes, put together.
"""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Final

import orjson
import structlog
from aiohttp import web

from gateway.admin.bodies import read_body
from gateway.admin.flows import WRITE_SECONDS
from gateway.admin.pass_on import join, pass_on_answer
from gateway.admin.refusals import AdminCode, Refused
from gateway.admin.relays import MAX_MCP_REQUEST_BYTES
from gateway.processes.fleet import Fleet
from gateway.processes.link import LinkError, open_answer, read_lines
from gateway.processes.serving_process import ServingProcess
from sallyport.net.tasks import TaskSet
from sallyport.net.unix_stream import UnixStream
from sallyport.problem import Code
from sallyport.setup import MAX_SETUP_BYTES
from sallyport.wire.http1.head import ResponseHead

# Lists of sandboxes, asked of every process at once.
LIST_SECONDS: Final = 10.0
# A line of a recording holds two bodies of a MiB, six bytes for a byte where all of it is escaped, and heads.
MAX_FLOW_LINE_BYTES: Final = 16 * 1024 * 1024
# What the process does with a request is bounded there; this only ends what hangs in between.
MOST_SECONDS: Final = 2 * 3600.0

# Fields of our own hop, and the token that was for us.
_NOT_FORWARDED: Final = frozenset(
    {"host", "connection", "content-length", "transfer-encoding", "upgrade", "expect", "authorization", "keep-alive"}
)
_NUMBER: Final = re.compile(rb'\{"kind":"exchange","number":([0-9]+),')

_log = structlog.get_logger(__name__)


def forward_routes(fleet: Fleet, tasks: TaskSet) -> Sequence[web.AbstractRouteDef]:
    """Return the routes to add to the admin application of a parent."""
    forwards = _Forwards(fleet, tasks)
    one = "/v1/sandboxes/{sandbox_id}"
    return [
        web.get("/v1/sandboxes", forwards.listed),
        web.put(f"{one}/setup", forwards.to_tunnel),
        web.get(f"{one}/setup", forwards.to_tunnel),
        web.get(f"{one}/endpoints/{{client_id}}/{{endpoint_key}}", forwards.to_tunnel),
        *(web.route(method, f"{one}/mcp/{{server_id}}", forwards.to_tunnel) for method in ("GET", "POST", "DELETE")),
        web.get("/v1/flows", forwards.record),
    ]


class _Forwards:
    """The handlers."""

    def __init__(self, fleet: Fleet, tasks: TaskSet) -> None:
        self._fleet = fleet
        self._tasks = tasks

    async def listed(self, _: web.Request) -> web.Response:
        """List every sandbox with a plan, a tunnel or an open stream at any process."""
        items: dict[str, dict[str, object]] = {}
        for process in self._fleet.processes:
            with contextlib.suppress(LinkError, TimeoutError):  # one that is being started holds nobody
                async with asyncio.timeout(LIST_SECONDS):
                    answered = await process.ask("GET", "/v1/sandboxes")
                for item in json.loads(answered.body)["items"]:
                    known = items.get(item["sandboxId"])
                    items[item["sandboxId"]] = item if known is None else _together(known, item)
        return web.json_response({"items": [items[sandbox_id] for sandbox_id in sorted(items)]})

    async def to_tunnel(self, request: web.Request) -> web.StreamResponse:
        """Have the process answer that has the sandbox's tunnel; without one any process says what is missing."""
        process = self._process(request.match_info["sandbox_id"])
        body = await read_body(request, max(MAX_MCP_REQUEST_BYTES, MAX_SETUP_BYTES))
        fields = [(name, value) for name, value in request.headers.items() if name.lower() not in _NOT_FORWARDED]
        if "Upgrade" in request.headers:
            fields += [("Connection", "Upgrade"), ("Upgrade", request.headers["Upgrade"])]
        try:
            async with asyncio.timeout(MOST_SECONDS):
                stream, head = await _open(process, request.method, request.raw_path, fields, body)
        except (LinkError, TimeoutError):
            raise Refused(AdminCode.SANDBOX_REFUSED, "the process that has the tunnel did not answer") from None
        try:
            if head.status == 101:
                return await join(self._tasks, request, stream, head)
            return await pass_on_answer(request, stream, head)
        finally:
            stream.abort()

    def _process(self, sandbox_id: str) -> ServingProcess:
        number = self._fleet.tunnels.process(sandbox_id)
        if number is not None:
            return self._fleet.processes[number - 1]
        for process in self._fleet.processes:
            if process.is_serving:
                return process
        raise Refused(Code.OVERLOADED, "every process is being started")

    # Recordings -------------------------------------------------------------------------------------

    async def record(self, request: web.Request) -> web.StreamResponse:
        """Record at every process that serves now, one line after the other."""
        async with contextlib.AsyncExitStack() as opened:
            parts = []
            for process in [each for each in self._fleet.processes if each.is_serving]:
                try:
                    stream, head = await _open(process, "GET", request.raw_path, (), b"")
                except LinkError:
                    continue
                opened.callback(stream.abort)
                if head.status != 200:
                    return await pass_on_answer(request, stream, head)
                parts.append((process.number, read_lines(stream, head, most_line_bytes=MAX_FLOW_LINE_BYTES)))
            if not parts:
                raise Refused(Code.OVERLOADED, "every process is being started")
            response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"})
            response.enable_chunked_encoding()
            merged = _MergedRecording(response)
            try:
                await response.prepare(request)
                async with asyncio.TaskGroup() as tasks:
                    for number, lines in parts:
                        tasks.create_task(merged.take(number, lines), name=f"recording of {number}")
                await merged.end()
                await response.write_eof()
            except* (ConnectionError, TimeoutError) as errors:
                _log.warning("recorder_lost", reasons=[type(error).__name__ for error in errors.exceptions])
                if request.transport is not None:
                    request.transport.abort()
            return response


class _MergedRecording:
    """The lines of several recordings as those of one."""

    def __init__(self, response: web.StreamResponse) -> None:
        self._response = response
        self._writing = asyncio.Lock()
        self._has_begun = False
        self._number = 0
        # What each process has told of itself.
        self._numbers: dict[int, int] = {}
        self._counts: dict[int, dict[str, int]] = {}

    async def take(self, process: int, lines: AsyncGenerator[bytes]) -> None:
        """Pass the lines of one process on; what breaks off ends its part."""
        try:
            async with contextlib.aclosing(lines):
                async for line in lines:
                    await self._pass_on(process, line)
        except LinkError as error:
            _log.warning("recording_incomplete", process=process, detail=str(error))

    async def end(self) -> None:
        """Say that all have ended."""
        await self._write({"kind": "end", "recorded": self._total("recorded"), "dropped": self._total("dropped")})

    async def _pass_on(self, process: int, line: bytes) -> None:
        found = _NUMBER.match(line)
        if found is not None:
            # What was dropped there has a number too, and so it has here.
            number = int(found[1])
            self._number += number - self._numbers.get(process, 0)
            self._numbers[process] = number
            await self._write_line(b'{"kind":"exchange","number":%d,' % self._number + line[found.end() :] + b"\n")
            return
        document = json.loads(line)
        match document["kind"]:
            case "recording":
                if not self._has_begun:
                    self._has_begun = True
                    await self._write_line(line + b"\n")
            case kind:
                counts = self._counts.setdefault(process, {})
                counts.update({name: value for name, value in document.items() if isinstance(value, int)})
                if kind == "dropped":
                    await self._write({"kind": "dropped", "dropped": self._total("dropped")})
                elif kind == "alive":
                    totals = {name: self._total(name) for name in ("recorded", "dropped")}
                    await self._write({"kind": "alive", **totals})

    def _total(self, name: str) -> int:
        return sum(counts.get(name, 0) for counts in self._counts.values())

    async def _write(self, document: Mapping[str, object]) -> None:
        await self._write_line(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE))

    async def _write_line(self, line: bytes) -> None:
        async with self._writing, asyncio.timeout(WRITE_SECONDS):
            await self._response.write(line)


async def _open(
    process: ServingProcess, method: str, target: str, fields: Sequence[tuple[str, str]], body: bytes
) -> tuple[UnixStream, ResponseHead]:
    if process.socket is None:
        raise LinkError("the process is being started")
    return await open_answer(process.socket, method, target, fields, body)


def _together(one: Mapping[str, object], other: Mapping[str, object]) -> dict[str, object]:
    """Return what two processes say of one sandbox as one."""
    streams, revisions = ([item[name] for item in (one, other)] for name in ("streams", "planRevision"))
    return {
        **one,
        "organizationId": one["organizationId"] or other["organizationId"],
        "tunnel": bool(one["tunnel"] or other["tunnel"]),
        "streams": sum(number for number in streams if isinstance(number, int)),
        "planRevision": max((number for number in revisions if isinstance(number, int)), default=None),
    }
