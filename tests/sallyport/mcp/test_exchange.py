"""What a request says it takes, and what a refusal says."""

import json

import pytest

from sallyport.mcp.exchange import McpRequest, Refused
from sallyport.problem import Code


@pytest.mark.parametrize(
    ("accept", "takes"),
    [
        ("application/json, text/event-stream", True),
        ("TEXT/Event-Stream", True),
        ("text/*;q=0.5", True),
        ("*/*", True),
        ("application/json", False),
        ("", False),
    ],
)
def test_who_takes_events(accept: str, takes: bool) -> None:
    assert McpRequest(method="POST", session_id=None, accept=accept, body=b"").takes_events is takes


def test_a_refusal_is_an_error_of_the_request_it_refuses() -> None:
    refused = Refused.of(Code.UPSTREAM_TIMEOUT, "it did not read")
    error = {"code": -32000, "message": "it did not read", "data": {"code": "upstream_timeout", "status": 504}}
    assert json.loads(refused.to_json()) == {"jsonrpc": "2.0", "id": None, "error": error}
    refused.identity = '"a"'
    assert json.loads(refused.to_json())["id"] == "a"
    assert (refused.status, str(refused)) == (504, "it did not read")
