"""Recordings as `sallyport flows record` writes them, for what reads them."""

import json
from pathlib import Path
from typing import Any


def recorded_exchange(**changes: object) -> dict[str, Any]:
    """Return one exchange; `changes` replace or add members, None takes one out."""
    whole: dict[str, Any] = {
        "kind": "exchange",
        "number": 1,
        "time": "2026-01-02T03:04:05.000006+00:00",
        "requestId": "req_1",
        "sandboxId": "sbx_one",
        "source": "tunnel",
        "method": "POST",
        "scheme": "https",
        "host": "api.test",
        "port": 443,
        "path": "/v1",
        "decision": "inject",
        "egressRuleId": "r",
        "outcome": "injected",
        "status": 200,
        "durationMs": 30.5,
        "sentMs": 10.25,
        "answeredMs": 20.0,
        "received": {"target": "/v1?a=b", "fields": [["Host", "api.test"]]},
        "sent": {
            "scheme": "https",
            "target": "/v1?a=b&c=",
            "fields": [["Host", "api.test"], ["Authorization", "Bearer REDACTED"], ["X-Latin", "\u00e9"]],
        },
        "answer": {"status": 200, "reason": "OK", "fields": [["Content-Type", "text/plain"]]},
        "requestBody": {"sizeBytes": 8, "text": "question"},
        "answerBody": {"sizeBytes": 2, "base64": "/wA="},
    }
    return {name: value for name, value in (whole | changes).items() if value is not None}


def refused_exchange() -> dict[str, Any]:
    """Return an exchange of which nothing was sent, as a plain proxy request."""
    return recorded_exchange(
        number=2,
        method="GET",
        scheme="http",
        port=80,
        decision="deny",
        outcome="denied",
        code="denied_by_plan",
        sentMs=None,
        sent=None,
        requestBody=None,
        received={"target": "http://api.test/x?y", "fields": [["Host", "api.test"]]},
        answer={"status": 403, "reason": "Forbidden", "fields": []},
        answerBody={"sizeBytes": 9, "text": "no", "truncated": True},
    )


def cancelled_exchange() -> dict[str, Any]:
    """Return an exchange without an answer."""
    omitted = {"sizeBytes": 5, "omitted": "it is coded"}
    return recorded_exchange(
        number=3, outcome="cancelled", answeredMs=None, answer=None, answerBody=None, requestBody=omitted
    )


def write_recording(path: Path, *lines: object) -> Path:
    """Write a recording; a line that is bytes is written as it is."""
    about = {"kind": "recording", "formatVersion": 1, "maxBodyBytes": 65536}
    end = {"kind": "end", "recorded": len(lines), "dropped": 0}
    written = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in (about, *lines, end)]
    path.write_bytes(b"".join(line + b"\n" for line in written))
    return path
