"""api.anthropic.com as far as its clients look: messages, whole and as an event stream."""

import asyncio
import json
from collections.abc import Iterator

from aiohttp import web

from demo.ledger import Expected, Ledger, Presence, guarded_application
from demo.openai_api import SENTENCE, TICK_SECONDS, send_event

HOST = "api.anthropic.com"


def anthropic_application(ledger: Ledger, key: str) -> web.Application:
    """Return the API; it accepts `x-api-key: <key>` and nothing else."""
    application = guarded_application(ledger, Expected(header="X-Api-Key", value=key), _refuse)
    application.router.add_post("/v1/messages", _messages)
    return application


def _refuse(request: web.Request, presence: Presence) -> web.Response:
    message = "x-api-key header is required" if presence is Presence.ABSENT else "invalid x-api-key"
    error = {"type": "authentication_error", "message": message}
    return web.json_response({"type": "error", "error": error, "request_id": "req_demo"}, status=401)


async def _messages(request: web.Request) -> web.StreamResponse:
    body = json.loads(await request.read())
    model = str(body.get("model", ""))
    if not body.get("stream"):
        content = [{"type": "text", "text": "".join(SENTENCE)}]
        return web.json_response(_message(model, content, "end_turn"))
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await answer.prepare(request)
    for document in _events(model):
        if not await send_event(answer, f"event: {document['type']}\ndata: {json.dumps(document)}\n\n"):
            break
        await asyncio.sleep(TICK_SECONDS)
    return answer


def _events(model: str) -> Iterator[dict[str, object]]:
    yield {"type": "message_start", "message": _message(model, [], None)}
    yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    yield {"type": "ping"}
    for token in SENTENCE:
        yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": token}}
    yield {"type": "content_block_stop", "index": 0}
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    yield {"type": "message_delta", "delta": delta, "usage": {"output_tokens": len(SENTENCE)}}
    yield {"type": "message_stop"}


def _message(model: str, content: list[dict[str, str]], stop_reason: str | None) -> dict[str, object]:
    return {
        "id": "msg_demo",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": len(content)},
    }
