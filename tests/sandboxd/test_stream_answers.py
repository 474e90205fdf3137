"""Refusals of the gateway's streams, as it reads them."""

import json

from sallyport.problem import Code
from sallyport.wire.http1.codec import parse_response
from sandboxd.stream_answers import not_found, problem


def test_both_are_problem_documents() -> None:
    for answer, status, code in (
        (problem(Code.OVERLOADED, "too many"), 503, "overloaded"),
        (not_found("nothing"), 404, "not_found"),
    ):
        head, _, body = answer.partition(b"\r\n\r\n")
        assert parse_response(head).status == status
        assert json.loads(body)["code"] == code
