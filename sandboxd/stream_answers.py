"""How a stream of the gateway is refused: a problem document, and the end."""

import json

from sallyport.problem import Code, Problem
from sallyport.wire.http1.answers import plain_answer, problem_answer


class StreamRefused(Exception):
    """A stream that is answered with a problem."""

    def __init__(self, answer: bytes) -> None:
        super().__init__()
        self.answer = answer


def problem(code: Code, detail: str) -> bytes:
    """Write a refusal by one of the codes of the data path."""
    return problem_answer(Problem(code=code, detail=detail), method="CONNECT", close=True)


def not_found(detail: str) -> bytes:
    """404 is no answer of the data path, so `Code` does not know it."""
    document = {
        "type": "urn:sallyport:error:not_found",
        "title": "There is nothing here",
        "status": 404,
        "code": "not_found",
        "detail": detail,
        "requestId": "",
        "retryable": False,
    }
    return plain_answer(404, "application/problem+json", json.dumps(document).encode("ascii"), close=True)
