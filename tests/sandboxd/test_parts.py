"""What sandboxd answers itself, and what it says when there is no stream to be had."""

import json

from sallyport.problem import Code
from sallyport.wire.http1.codec import parse_response
from sallyport.wire.http1.scan import HEAD_END
from sandboxd.gateway_side import GatewaySide
from tests.support.sandboxd_in_process import SandboxdInProcess


async def test_its_answers_are_those_of_a_gateway(sandboxd: SandboxdInProcess) -> None:
    one, two = (sandboxd.parts.answer(Code.PLAN_UNAVAILABLE, "d", method="GET", hint="h") for _ in range(2))
    head, _, body = one.partition(HEAD_END)
    answer = parse_response(head)
    assert (answer.status, answer.close) == (503, True)
    assert b"Retry-After: 5" in answer.lines
    document = json.loads(body)
    assert (document["code"], document["hint"], document["retryable"]) == ("plan_unavailable", "h", True)
    assert document["requestId"] != json.loads(two.partition(HEAD_END)[2])["requestId"]
    assert b"Retry-After" not in sandboxd.parts.answer(Code.INVALID_REQUEST, "d", method="GET")


async def test_why_there_is_no_stream(sandboxd: SandboxdInProcess) -> None:
    parts = sandboxd.parts
    parts.gateway = GatewaySide()
    assert parts.no_set().code is Code.PLAN_UNAVAILABLE
    assert "reached" in parts.no_set().detail
    assert parts.no_stream().code is Code.DRAINING
