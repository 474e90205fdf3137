"""`/p/integration/webhooks/{endpointKey}`: where providers send events. No token: the signature is the proof."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request, Response

from control_plane.api.bodies import read_bytes
from control_plane.api.parts import PartsOf
from control_plane.definitions.contract import WebhookRequest, WebhookResponse
from control_plane.webhooks.endpoints import PATH

router = APIRouter()

# As its provider writes it.
_ANY_BODY: Final[dict[str, Any]] = {"requestBody": {"required": True, "content": {"application/json": {"schema": {}}}}}

EndpointPath = Annotated[str, Path(pattern=r"^whk_[0-9a-f]{48}$")]


@router.post(PATH + "{endpoint_key}", response_class=Response, openapi_extra=_ANY_BODY)
async def take_webhook(endpoint_key: EndpointPath, request: Request, parts: PartsOf) -> Response:
    """Take an event in; 200 says that it will not be lost."""
    opened = await parts.ingest.open(endpoint_key)
    with parts.ingest.room() as arrived:
        body = await read_bytes(request, parts.max_webhook_bytes, arrived)
        answer = await parts.ingest.take(opened, _read(request, body), parts.now())
    if isinstance(answer, WebhookResponse):
        headers = {"X-Content-Type-Options": "nosniff"}
        return Response(answer.body, answer.status, headers, media_type=answer.content_type)
    return Response(b'{"status":"%s"}' % answer.status.encode(), answer.code, media_type="application/json")


def _read(request: Request, body: bytes) -> WebhookRequest:
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        # As RFC 9110 section 5.2 has it; a signature that stands there twice fits nothing so.
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return WebhookRequest(method=request.method, headers=headers, query=dict(request.query_params), body=body)
