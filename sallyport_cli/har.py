"""A recording as HAR 1.2 (http://www.softwareishard.com/blog/har-12-spec/), which browsers and mitmproxy open."""

import json
from collections.abc import Iterable, Sequence
from typing import BinaryIO
from urllib.parse import parse_qsl, urlsplit

from sallyport_cli.recording import RecordedBody, RecordedExchange

_OPENING = '{"log":{"version":"1.2","creator":{"name":"sallyport","version":"1"},"pages":[],"entries":['
# The numbers that HAR writes for "not known".
_UNKNOWN = -1


def write_har(exchanges: Iterable[RecordedExchange], file: BinaryIO) -> int:
    """Write exchanges as one HAR document, one by one; return how many."""
    file.write(_OPENING.encode())
    count = 0
    for exchange in exchanges:
        file.write((",\n" if count else "\n").encode())
        file.write(json.dumps(har_entry(exchange), ensure_ascii=False).encode("utf-8"))
        count += 1
    file.write(b"\n]}}\n")
    return count


def har_entry(exchange: RecordedExchange) -> dict[str, object]:
    """Return one entry. What was decided stands in `_sallyport`; HAR lets tools add members with an underscore."""
    return {
        "startedDateTime": exchange.time.isoformat(),
        "time": exchange.duration_ms,
        "request": _request(exchange),
        "response": _response(exchange),
        "cache": {},
        "timings": _timings(exchange),
        "comment": f"{exchange.decision}, {exchange.outcome}",
        "_sallyport": {
            **exchange.decided,
            "received": {"target": exchange.received.target, "headers": _pairs(exchange.received.fields)},
        },
    }


def _request(exchange: RecordedExchange) -> dict[str, object]:
    head, body = exchange.head, exchange.request_body
    request: dict[str, object] = {
        "method": exchange.method,
        "url": exchange.url,
        "httpVersion": "HTTP/1.1",
        "cookies": [],
        "headers": _pairs(head.fields),
        "queryString": _pairs(parse_qsl(urlsplit(exchange.url).query, keep_blank_values=True)),
        "headersSize": _UNKNOWN,
        "bodySize": 0 if body is None else body.size_bytes,
    }
    if body is not None:
        text = body.content.decode("utf-8", "replace")
        request["postData"] = {"mimeType": head.field("content-type") or "", "text": text, **_comment(body)}
    return request


def _response(exchange: RecordedExchange) -> dict[str, object]:
    answer, body = exchange.answer, exchange.answer_body
    fields = [] if answer is None else answer.fields
    return {
        "status": 0 if answer is None else answer.status,
        "statusText": "" if answer is None else answer.reason,
        "httpVersion": "HTTP/1.1",
        "cookies": [],
        "headers": _pairs(fields),
        "content": {
            "size": 0 if body is None else body.size_bytes,
            "mimeType": _first(fields, "content-type") or "x-unknown",
            **({} if body is None else _content(body)),
        },
        "redirectURL": _first(fields, "location") or "",
        "headersSize": _UNKNOWN,
        "bodySize": 0 if body is None else body.size_bytes,
    }


def _content(body: RecordedBody) -> dict[str, object]:
    if body.base64 is not None:
        return {"text": body.base64, "encoding": "base64", **_comment(body)}
    return {"text": body.text or "", **_comment(body)}


def _comment(body: RecordedBody) -> dict[str, object]:
    if body.omitted is not None:
        return {"comment": f"not recorded: {body.omitted}"}
    return {"comment": "cut short when it was recorded"} if body.truncated else {}


def _timings(exchange: RecordedExchange) -> dict[str, float]:
    """Blocked is what came before the request was sent: the credential, the dial."""
    sent = exchange.sent_ms or 0.0
    answered = exchange.duration_ms if exchange.answered_ms is None else exchange.answered_ms
    return {
        "blocked": sent,
        "send": 0,
        "wait": round(max(0.0, answered - sent), 3),
        "receive": round(max(0.0, exchange.duration_ms - answered), 3),
    }


def _pairs(fields: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in fields]


def _first(fields: Sequence[tuple[str, str]], name: str) -> str | None:
    return next((value for key, value in fields if key.lower() == name), None)
