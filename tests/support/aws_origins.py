"""Three services of AWS as boto3 speaks with them, which check every signature: an object store, STS, DynamoDB."""

import time
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape

from aiohttp import web

from demo.ledger import Ledger, Presence, Received
from tests.support.aws_signature import Account, Arrived, fault_of
from tests.support.store_origin import Store

REGION = "eu-west-1"
S3_HOST, STS_HOST, TABLE_HOST = (f"{name}.{REGION}.amazonaws.com" for name in ("s3", "sts", "dynamodb"))
_MOST_BYTES = 64 * 1024 * 1024

type Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def store_of_aws(ledger: Ledger, account: Account) -> web.Application:
    """Return the object store, with the bucket in the path."""
    store = Store()
    application = _checked(ledger, account, "s3")
    application.router.add_put("/{key:.+}", store.put)
    application.router.add_get("/{key:.+}", store.get)
    application.router.add_post("/{key:.+}", store.post)
    return application


def sts_of_aws(ledger: Ledger, account: Account) -> web.Application:
    """Return the service that says whose keys they are; its requests are forms."""

    async def answer(request: web.Request) -> web.Response:
        (action,) = parse_qs(await request.text())["Action"]
        result = f"<Account>1</Account><UserId>{escape(account.access_key_id)}</UserId><Arn>arn:aws:sts::1:role</Arn>"
        return web.Response(
            text=f"<{action}Response><{action}Result>{result}</{action}Result></{action}Response>",
            content_type="text/xml",
        )

    application = _checked(ledger, account, "sts")
    application.router.add_post("/", answer)
    return application


def table_of_aws(ledger: Ledger, account: Account) -> web.Application:
    """Return a table that gives back what was put; its requests are JSON."""
    items: list[object] = []

    async def answer(request: web.Request) -> web.Response:
        asked = await request.json()
        if request.headers["X-Amz-Target"].endswith(".PutItem"):
            items.append(asked["Item"])
            return web.json_response({}, content_type="application/x-amz-json-1.0")
        return web.json_response({"Item": items[-1]}, content_type="application/x-amz-json-1.0")

    application = _checked(ledger, account, "dynamodb")
    application.router.add_post("/", answer)
    return application


def _checked(ledger: Ledger, account: Account, service: str) -> web.Application:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        arrived = Arrived(
            method=request.method,
            target=request.raw_path,
            fields=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers],
            body=await request.read(),
        )
        fault = fault_of(arrived, account, service, REGION, time.time_ns() / 1e9)
        ledger.received.append(
            Received(
                host=request.host,
                method=request.method,
                path=unquote(request.raw_path.partition("?")[0]),
                header="Authorization",
                presence=Presence.WRONG if fault else Presence.EXACT,
                foreign_headers=(),
                body_bytes_announced=request.content_length,
            )
        )
        if fault:
            return web.Response(
                status=403, text=f"<Error><Code>{escape(fault)}</Code></Error>", content_type="text/xml"
            )
        return await handler(request)

    return web.Application(middlewares=[check], client_max_size=_MOST_BYTES)
