"""POST of 10 KB answered by 10 KB: a chat completion without streaming."""

from benchmarks.workloads.small_get import API_HEADERS, CLIENT_HEADERS
from benchmarks.workloads.workload import Workload

_BODY_BYTES = 10_240


def _document(opening: bytes) -> bytes:
    """Return JSON of exactly _BODY_BYTES that begins with `opening`."""
    words = b"It is the credential that travels and the sandbox that stays. "
    room = _BODY_BYTES - len(opening) - 2
    return opening + (words * (room // len(words) + 1))[:room] + b'"}'


WORKLOAD = Workload(
    name="post_10k",
    title="POST 10 KB, answer 10 KB",
    method="POST",
    path="/v1/chat/completions",
    request_headers=CLIENT_HEADERS,
    request_body=_document(b'{"model":"small","input":"'),
    answer_headers=API_HEADERS,
    answer_body=_document(b'{"object":"response","output":"'),
)
