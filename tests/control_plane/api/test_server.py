"""The application's own rules: what it documents, what it refuses by itself."""

import asyncio
import json
from typing import Any

import pytest

from control_plane.api import server
from tests.support.control_plane import Replica

# What is tested here knows no database: one is enough.
pytestmark = pytest.mark.parametrize("url", ["sqlite"], indirect=True)

WHOLE = b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"
PARTIAL = WHOLE[:-4]


async def test_the_openapi_document_names_every_path_and_body(api: Replica) -> None:
    document: dict[str, Any] = (await api.client.get("/openapi.json")).json()
    paths = document["paths"]
    for path in ("/v1/sandboxes", "/internal/plans/watch", "/internal/integration-credentials/resolve"):
        assert path in paths
    body = paths["/v1/sandboxes"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert set(body["properties"]) == {"organizationId", "sandboxId", "sandboxProfileId", "version"}
    assert body["additionalProperties"] is False
    key = paths["/v1/integration/connections/{id}/api-key"]["post"]["requestBody"]
    assert key["content"]["application/json"]["schema"]["properties"]["value"]["writeOnly"] is True


async def test_a_misspelt_parameter_is_refused(api: Replica) -> None:
    answer = await api.client.get("/v1/sandboxes?organization=org_one&limi=1")
    assert answer.status_code == 400
    assert [issue["pointer"] for issue in answer.json()["issues"]] == ["organization", "limi"]


@pytest.mark.parametrize(
    "sent",
    [b"GET /healthz HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 2_000_000, b"\x16\x03\x01" + WHOLE, WHOLE + b"?" + WHOLE],
)
async def test_what_cannot_be_read_is_refused_as_all_else_is(api: Replica, sent: bytes) -> None:
    """Whoever still sends as the answer is there is not reset, which could take the answer with it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.plane.port)
    async with asyncio.timeout(20):
        if sent.startswith(WHOLE):
            writer.write(WHOLE)
            assert b'{"status":"ok"}' in await reader.readuntil(b"}")
        writer.write(sent.removeprefix(WHOLE))
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        document = json.loads(await reader.read())
        writer.close()
        await writer.wait_closed()
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\n")
    assert (document["code"], document["requestId"][:4]) == ("invalid_request", "ctl_")


@pytest.mark.parametrize(("first", "cut"), [(b"", b""), (b"", PARTIAL), (WHOLE, PARTIAL)])
async def test_a_head_that_does_not_come(
    api: Replica, monkeypatch: pytest.MonkeyPatch, first: bytes, cut: bytes
) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", api.plane.port)
    writer.write(first)
    async with asyncio.timeout(10):
        if first:
            await reader.readuntil(b"}")
        writer.write(cut)
        assert await reader.read() == b""  # closed without a word
    writer.close()
    await writer.wait_closed()


async def test_a_kept_alive_link_is_not_cut(api: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", api.plane.port)
    for _ in range(2):
        writer.write(WHOLE)
        async with asyncio.timeout(10):
            assert b'{"status":"ok"}' in await reader.readuntil(b"}")
        await asyncio.sleep(0.2)  # longer than a head may take
    writer.close()
    await writer.wait_closed()


async def test_no_answer_names_the_server(api: Replica) -> None:
    answer = await api.client.get("/healthz")
    assert "server" not in answer.headers
