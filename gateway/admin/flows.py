"""`GET /v1/flows`: finished exchanges as they come, redacted, one line of JSON each (docs/flows.md).

On the admin listener, because what is recorded is other people's traffic. One recorder at a time; one that takes
nothing for WRITE_SECONDS is cut off. The answer ends when the gateway does, or when the recorder goes.
"""

import asyncio
from typing import Final

import orjson
import structlog
from aiohttp import web

from gateway.admin.refusals import AdminCode, Refused
from gateway.recorder import MAX_BODY_BYTES, Recorder, RecorderBusy, Recording
from sallyport.problem import Code

# What a recording says of its own form; it rises when a reader of the old one would be misled.
FORMAT_VERSION: Final = 1
DEFAULT_BODY_BYTES: Final = 64 * 1024
# How long a finished exchange may wait for others before they are written together.
FLUSH_SECONDS: Final = 0.05
# Exchanges redacted in one go: with bodies some milliseconds on a thread, which shares the interpreter with the loop.
BATCH_EXCHANGES: Final = 64
# A line that says that nothing happened, so that both ends learn when the other is gone.
ALIVE_SECONDS: Final = 5.0
WRITE_SECONDS: Final = 30.0
# A day; whoever wants more asks again.
MAX_DURATION_MS: Final = 86_400_000

_log = structlog.get_logger(__name__)


def flows_routes(recorder: Recorder) -> list[web.RouteDef]:
    """Return the route to add to the admin application."""

    async def record(request: web.Request) -> web.StreamResponse:
        sandbox_id, max_body_bytes, seconds = _read_query(request)
        try:
            recording = recorder.begin(sandbox_id=sandbox_id, max_body_bytes=max_body_bytes)
        except RecorderBusy:
            raise Refused(AdminCode.RECORDER_BUSY, "somebody records already; one recorder at a time") from None
        _log.info("recording_began", sandbox_id=sandbox_id, max_body_bytes=max_body_bytes)
        try:
            return await _stream(request, recording, seconds)
        finally:
            recording.end()
            recording.take_all()
            _log.info("recording_ended", dropped=recording.dropped)

    return [web.get("/v1/flows", record)]


async def _stream(request: web.Request, recording: Recording, seconds: float) -> web.StreamResponse:
    """Write lines until the recording ends or its reader is gone."""
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"})
    response.enable_chunked_encoding()
    try:
        await response.prepare(request)
        await _write(response, _about(recording))
        ending = asyncio.get_running_loop().call_later(seconds, recording.end)
        try:
            await _write_all(request, response, recording)
        finally:
            ending.cancel()
        if request.transport is not None:
            end = {"kind": "end", "recorded": recording.recorded, "dropped": recording.dropped}
            await _write(response, _line(end))
            await response.write_eof()
    except (ConnectionError, TimeoutError) as error:
        _log.warning("recorder_lost", reason=type(error).__name__)
        if request.transport is not None:
            request.transport.abort()
    return response


async def _write_all(request: web.Request, response: web.StreamResponse, recording: Recording) -> None:
    told_dropped, silent_seconds = 0, 0.0
    while request.transport is not None:
        batch = recording.take(BATCH_EXCHANGES)
        lines = await asyncio.to_thread(recording.lines, batch) if batch else b""
        if recording.dropped != told_dropped:
            told_dropped = recording.dropped
            lines += _line({"kind": "dropped", "dropped": told_dropped})
        if not lines and silent_seconds >= ALIVE_SECONDS:
            lines = _line({"kind": "alive", "recorded": recording.recorded, "dropped": told_dropped})
        if lines:
            silent_seconds = 0.0
            await _write(response, lines)
        elif recording.has_ended:
            return
        else:
            await asyncio.sleep(FLUSH_SECONDS)
            silent_seconds += FLUSH_SECONDS


async def _write(response: web.StreamResponse, lines: bytes) -> None:
    async with asyncio.timeout(WRITE_SECONDS):
        await response.write(lines)


def _about(recording: Recording) -> bytes:
    about = {"kind": "recording", "formatVersion": FORMAT_VERSION, "maxBodyBytes": recording.max_body_bytes}
    return _line(about if recording.sandbox_id is None else about | {"sandboxId": recording.sandbox_id})


def _line(document: dict[str, object]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)


def _read_query(request: web.Request) -> tuple[str | None, int, float]:
    """Return whose exchanges, how much of each body, and for how many seconds; raises Refused."""
    if set(request.query) - {"sandbox", "maxBody", "durationMs"} or len(request.query) != len(set(request.query)):
        raise Refused(Code.INVALID_REQUEST, "the query knows sandbox, maxBody and durationMs, each once")
    sandbox_id = request.query.get("sandbox")
    if sandbox_id is not None and not (0 < len(sandbox_id) <= 256 and sandbox_id.isprintable()):
        raise Refused(Code.INVALID_REQUEST, "sandbox: write a sandbox's id")
    max_body_bytes = _number(request, "maxBody", DEFAULT_BODY_BYTES, MAX_BODY_BYTES)
    return sandbox_id, max_body_bytes, _number(request, "durationMs", MAX_DURATION_MS, MAX_DURATION_MS) / 1000


def _number(request: web.Request, name: str, default: int, highest: int) -> int:
    text = request.query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) <= highest):
        raise Refused(Code.INVALID_REQUEST, f"{name}: write a whole number, at most {highest}")
    return int(text)
