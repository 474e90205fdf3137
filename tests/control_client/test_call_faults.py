"""What a request meets becomes an answer of that request alone."""

import json
from collections.abc import AsyncIterator

import httpx2
import pytest

from control_client.call_faults import CUT_OFF, MAX_DOCUMENT_BYTES, NOT_ACCEPTED, NOT_BEGUN, UNREADABLE, AnsweredFaults

URL = "http://server/mcp"


class Inner(httpx2.AsyncBaseTransport):
    """Answer or raise as told."""

    def __init__(self, outcome: httpx2.Response | Exception) -> None:
        self.outcome = outcome

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


async def send(outcome: httpx2.Response | Exception, method: str = "POST", **headers: str) -> httpx2.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx2.AsyncClient(transport=AnsweredFaults(Inner(outcome))) as client:
        return await client.request(method, URL, headers=named)


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (httpx2.ConnectError("refused"), NOT_BEGUN),
        (httpx2.ConnectTimeout("slow"), NOT_BEGUN),
        (httpx2.PoolTimeout("full"), NOT_BEGUN),
        (httpx2.ReadError("reset"), CUT_OFF),
        (httpx2.WriteError("reset"), CUT_OFF),
        (httpx2.RemoteProtocolError("gone"), CUT_OFF),
        (httpx2.LocalProtocolError("a header"), UNREADABLE),
        (httpx2.Response(401), NOT_ACCEPTED),
        (httpx2.Response(403), NOT_ACCEPTED),
    ],
)
async def test_a_fault_says_whether_the_call_can_have_begun(outcome: httpx2.Response | Exception, code: int) -> None:
    response = await send(outcome)
    document = json.loads(response.content)
    assert (response.status_code, document["id"], document["error"]["code"]) == (503, None, code)
    assert response.headers["content-type"] == "application/json"


async def test_a_session_that_is_not_known_any_more_was_not_begun() -> None:
    assert json.loads((await send(httpx2.Response(404), mcp_session_id="s")).content)["error"]["code"] == NOT_BEGUN
    assert (await send(httpx2.Response(404))).status_code == 404


@pytest.mark.parametrize("status", [200, 202, 400, 500])
async def test_what_the_server_says_is_passed_on(status: int) -> None:
    assert (await send(httpx2.Response(status, content=b"body"))).content == b"body"


class Piecewise(httpx2.AsyncByteStream):
    """A body that comes in pieces, and ends by an error where one is given."""

    def __init__(self, *pieces: bytes, error: Exception | None = None) -> None:
        self.pieces = pieces
        self.error = error
        self.is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece
        if self.error is not None:
            raise self.error

    async def aclose(self) -> None:
        self.is_closed = True


JSON = {"Content-Type": "application/json; charset=utf-8"}


async def test_a_document_is_whole_before_it_is_passed_on() -> None:
    stream = Piecewise(b'{"a":', b"1}")
    assert (await send(httpx2.Response(200, headers=JSON, stream=stream))).json() == {"a": 1}
    assert stream.is_closed


async def test_a_document_that_breaks_off_cuts_its_call_alone() -> None:
    stream = Piecewise(b'{"a":', error=httpx2.ReadError("reset"))
    assert code_of(await send(httpx2.Response(200, headers=JSON, stream=stream))) == CUT_OFF


async def test_a_document_has_an_end() -> None:
    stream = Piecewise(*[b"x" * (MAX_DOCUMENT_BYTES // 4)] * 5)
    assert code_of(await send(httpx2.Response(200, headers=JSON, stream=stream))) == UNREADABLE
    assert stream.is_closed


async def test_a_coded_answer_is_none() -> None:
    headers = JSON | {"Content-Encoding": "gzip"}
    assert code_of(await send(httpx2.Response(200, headers=headers, stream=Piecewise(b"\x1f\x8b")))) == UNREADABLE


async def test_an_event_stream_is_passed_on_as_it_comes() -> None:
    stream = Piecewise(b"data: 1\n\n", b"data: 2\n\n")
    response = await send(httpx2.Response(200, headers={"Content-Type": "text/event-stream"}, stream=stream))
    assert response.content == b"data: 1\n\ndata: 2\n\n"


def code_of(response: httpx2.Response) -> int:
    return int(json.loads(response.content)["error"]["code"])


async def test_other_requests_bear_their_own_faults() -> None:
    for method in ("GET", "DELETE"):
        with pytest.raises(httpx2.ConnectError):
            await send(httpx2.ConnectError("refused"), method)
        assert (await send(httpx2.Response(401), method)).status_code == 401
