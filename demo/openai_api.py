"""api.openai.com as far as its clients look: models, chat completions, responses, streams, and a realtime socket.

The shapes follow the published API reference; the sentence it says is always the same.
"""

import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import Any

from aiohttp import WSMsgType, web

from demo.ledger import Expected, Ledger, Presence, guarded_application

HOST = "api.openai.com"
SENTENCE = ("The", " key", " was", " never", " in", " the", " sandbox", ".")
# Long enough that a proxy which buffers the stream is seen to do so, short enough for a demonstration.
TICK_SECONDS = 0.03
# A completion of this model holds its second token back until somebody lists the models: only a client that already
# holds the first token can release it, so it ends if and only if nothing on the way buffers the stream.
HELD_MODEL = "gpt-held"
_CREATED = 1_760_000_000


def openai_application(ledger: Ledger, key: str) -> web.Application:
    """Return the API; it accepts `Authorization: Bearer <key>` and nothing else."""
    expected = Expected(header="Authorization", value=f"Bearer {key}")
    application = guarded_application(ledger, expected, _refuse)
    released = asyncio.Event()

    async def models(request: web.Request) -> web.Response:
        released.set()
        data = [_model(name) for name in ("gpt-4o-mini", HELD_MODEL)]
        return web.json_response({"object": "list", "data": data}, headers={"x-request-id": "req_demo"})

    async def chat_completions(request: web.Request) -> web.StreamResponse:
        body = await _json_body(request)
        model = str(body.get("model", ""))
        if not body.get("stream"):
            return web.json_response(_completion(model, len(json.dumps(body.get("messages", "")))))
        held = released if model == HELD_MODEL else None
        released.clear()
        return await _send_events(request, _completion_chunks(model), held)

    async def responses(request: web.Request) -> web.StreamResponse:
        body = await _json_body(request)
        model = str(body.get("model", ""))
        if not body.get("stream"):
            return web.json_response(_response(model, "completed", "".join(SENTENCE)))
        return await _send_events(request, _response_events(model), None)

    application.router.add_get("/v1/models", models)
    application.router.add_post("/v1/chat/completions", chat_completions)
    application.router.add_post("/v1/responses", responses)
    application.router.add_get("/v1/realtime", _realtime)
    return application


def _refuse(request: web.Request, presence: Presence) -> web.Response:
    message = "You didn't provide an API key." if presence is Presence.ABSENT else "Incorrect API key provided."
    code = None if presence is Presence.ABSENT else "invalid_api_key"
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return web.json_response({"error": error}, status=401)


async def _json_body(request: web.Request) -> Mapping[str, Any]:
    try:
        body = json.loads(await request.read())
    except ValueError:
        body = None
    if isinstance(body, dict):
        return body
    error = {"message": "We could not parse the JSON body of your request.", "type": "invalid_request_error"}
    raise web.HTTPBadRequest(text=json.dumps({"error": error}), content_type="application/json")


async def _send_events(
    request: web.Request, events: Iterator[tuple[str | None, str]], held: asyncio.Event | None
) -> web.StreamResponse:
    """Stream server-sent events one by one; with `held`, wait for it between the first token and the second."""
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await answer.prepare(request)
    for number, (name, data) in enumerate(events):
        if number:
            await asyncio.sleep(TICK_SECONDS)
        if number == 2 and held is not None:
            await held.wait()
        prefix = f"event: {name}\n" if name else ""
        if not await send_event(answer, f"{prefix}data: {data}\n\n"):
            break
    return answer


async def send_event(answer: web.StreamResponse, event: str) -> bool:
    """Send one event; False where the client has gone, as some do at the event that says it was the last."""
    try:
        await answer.write(event.encode())
    except ConnectionResetError:
        return False
    return True


def _completion_chunks(model: str) -> Iterator[tuple[str | None, str]]:
    def chunk(delta: Mapping[str, str], finish_reason: str | None) -> tuple[None, str]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        document = {
            "id": "chatcmpl-demo",
            "object": "chat.completion.chunk",
            "created": _CREATED,
            "model": model,
            "choices": [choice],
        }
        return None, json.dumps(document)

    yield chunk({"role": "assistant", "content": ""}, None)
    for token in SENTENCE:
        yield chunk({"content": token}, None)
    finish, last = chunk({}, "stop")
    yield finish, f"{last}\n\ndata: [DONE]"


def _response_events(model: str) -> Iterator[tuple[str | None, str]]:
    text = "".join(SENTENCE)
    place = {"item_id": "msg_demo", "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": "", "annotations": []}
    item = {"id": "msg_demo", "type": "message", "status": "in_progress", "role": "assistant", "content": []}
    bodies: list[tuple[str, dict[str, object]]] = [
        ("response.created", {"response": _response(model, "in_progress", None)}),
        ("response.in_progress", {"response": _response(model, "in_progress", None)}),
        ("response.output_item.added", {"output_index": 0, "item": item}),
        ("response.content_part.added", {**place, "part": part}),
        *(("response.output_text.delta", {**place, "delta": token, "logprobs": []}) for token in SENTENCE),
        ("response.output_text.done", {**place, "text": text, "logprobs": []}),
        ("response.content_part.done", {**place, "part": {**part, "text": text}}),
        ("response.output_item.done", {"output_index": 0, "item": _message(text)}),
        ("response.completed", {"response": _response(model, "completed", text)}),
    ]
    for number, (name, body) in enumerate(bodies):
        yield name, json.dumps({"type": name, "sequence_number": number, **body})


def _completion(model: str, prompt_size: int) -> dict[str, object]:
    message = {"role": "assistant", "content": "".join(SENTENCE), "refusal": None}
    return {
        "id": "chatcmpl-demo",
        "object": "chat.completion",
        "created": _CREATED,
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        # Counted in characters of JSON, so that a client sees whether its whole body arrived.
        "usage": {
            "prompt_tokens": prompt_size,
            "completion_tokens": len(SENTENCE),
            "total_tokens": prompt_size + len(SENTENCE),
        },
    }


def _response(model: str, status: str, text: str | None) -> dict[str, object]:
    return {
        "id": "resp_demo",
        "object": "response",
        "created_at": _CREATED,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "model": model,
        "output": [] if text is None else [_message(text)],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "metadata": {},
    }


def _message(text: str) -> dict[str, object]:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"id": "msg_demo", "type": "message", "status": "completed", "role": "assistant", "content": [part]}


def _model(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": "demo"}


async def _realtime(request: web.Request) -> web.WebSocketResponse:
    """Echo every message, so that bytes after the 101 are seen to pass both ways."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await socket.send_bytes(message.data)
    return socket
