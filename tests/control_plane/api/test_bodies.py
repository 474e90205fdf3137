"""Bodies: bounded, in time, strict, every fault at once."""

import asyncio

import pytest
from starlette.requests import Request
from starlette.types import Message

from control_plane.api import bodies
from control_plane.api.bodies import MAX_BODY_BYTES
from control_plane.refusals import Refused
from tests.support.control_plane import Replica

# What is tested here knows no database: one is enough.
pytestmark = pytest.mark.parametrize("url", ["sqlite"], indirect=True)

PATH = "/v1/sandboxes"


@pytest.mark.parametrize(
    ("content", "issues"),
    [
        (b"", [("invalid_json", "")]),
        (b"nonsense", [("invalid_json", "")]),
        (b"\xff", [("not_utf8", "")]),
        (b"[]", [("wrong_type", "")]),
        (b'"x"', [("wrong_type", "")]),
        (b"{}", [("missing_field", "/organizationId")]),
        (b'{"organizationId":"a","organizationId":"b"}', [("duplicate_key", "/organizationId")]),
        (b'{"organizationId":1,"version":0,"x":1,"sandboxId":null}', None),
        (b'{"organizationId":"org_one","version":1.5}', [("float_refused", "/version")]),
        (b'{"organizationId":"org_one","version":"1"}', [("wrong_type", "/version")]),
        (b'{"organizationId":"a b"}', [("malformed", "/organizationId")]),
        (b'{"organizationId":"a\\u0000"}', [("malformed", "/organizationId")]),
        (b'{"organizationId":"\\ud800"}', [("invalid_text", "/organizationId")]),
        (b"[" * 10_000, None),
    ],
)
async def test_every_fault_has_its_pointer(api: Replica, content: bytes, issues: list[tuple[str, str]] | None) -> None:
    answer = await api.client.post(PATH, content=content)
    assert answer.status_code == 400, answer.text
    found = [(issue["code"], issue["pointer"]) for issue in answer.json()["issues"]]
    if issues is None:
        assert len(found) in (1, 4)
    else:
        assert found == issues
    assert (await api.ask("GET", PATH))["items"] == []


async def test_a_body_that_is_too_long(api: Replica) -> None:
    body = b'{"organizationId":"' + b"a" * MAX_BODY_BYTES + b'"}'
    assert await api.refused("POST", PATH, content=body) == "413 body_too_large"


async def test_a_body_that_does_not_come(api: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", api.plane.port)
    head = f"POST {PATH} HTTP/1.1\r\nHost: h\r\nAuthorization: {api.client.headers['authorization']}\r\n"
    writer.write(f"{head}Content-Length: 100\r\n\r\n{{".encode())
    async with asyncio.timeout(10):
        answer = await reader.readuntil(b"\r\n")
    assert b"408" in answer
    writer.close()
    await writer.wait_closed()


async def test_who_goes_away_in_the_middle_of_a_body_is_no_fault_of_ours(api: Replica) -> None:
    messages: list[Message] = [
        {"type": "http.request", "body": b"{", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return messages.pop(0)

    with pytest.raises(Refused, match="the body ended before its length"):
        await bodies.read_bytes(Request({"type": "http", "method": "POST", "headers": []}, receive))
