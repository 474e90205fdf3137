"""Whole answers as bytes (contracts section 9). What each code answers is tests/gateway/core/test_errors.py."""

import json

import pytest

from sallyport.problem import Code, Problem
from sallyport.wire.http1.answers import ESTABLISHED, plain_answer, problem_answer
from sallyport.wire.http1.codec import parse_response
from sallyport.wire.http1.scan import HEAD_END


@pytest.mark.parametrize(("close", "field"), [(False, b""), (True, b"Connection: close\r\n")])
def test_a_plain_answer(close: bool, field: bytes) -> None:
    assert plain_answer(200, "text/plain", b"ok\n", close=close) == (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n" + field + b"\r\nok\n"
    )


def test_a_problem_is_a_whole_answer() -> None:
    problem = Problem(code=Code.PLAN_UNAVAILABLE, detail="d", request_id="req_1", retry_after_seconds=5)
    head, _, body = problem_answer(problem, method="GET", close=True).partition(HEAD_END)
    answer = parse_response(head)
    assert (answer.status, answer.body, answer.close) == (503, len(body), True)
    assert b"Retry-After: 5" in answer.lines
    assert json.loads(body)["requestId"] == "req_1"


def test_an_established_stream_has_no_fields() -> None:
    assert parse_response(ESTABLISHED.removesuffix(HEAD_END)).body is None
