"""The URL that providers send to: everything a sender can do to it has its documented answer."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from control_plane.definitions.registry import Registry
from control_plane.foundation import foundation
from tests.support.control_plane import NOW, Replica, replica, settings
from tests.support.webhook_signatures import HEX, signed
from tests.support.webhook_stage import bind, chat, connect, event_body, offer

TARGET = "chat-default"


@asynccontextmanager
async def running(url: str, tmp_path: Path, **variables: str) -> AsyncIterator[tuple[Replica, str, httpx.AsyncClient]]:
    """A control plane with an endpoint, and a provider without any token."""
    definition = chat(HEX)
    config = settings(tmp_path / "data", url, **variables)
    async with replica(config, Registry([definition])) as api:
        async with foundation(config, now=NOW, prepare=False) as base:
            await offer(base, definition)
            await connect(base, TARGET)
            await bind(base)
        made = await api.ask("POST", "/v1/integration/webhook-endpoints", {"targetKey": TARGET}, status=201)
        path = str(made["url"]).partition("//")[2].partition("/")[2]
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{api.plane.port}", trust_env=False, timeout=20
        ) as provider:
            yield api, f"/{path}", provider


async def test_a_provider_needs_no_token(url: str, tmp_path: Path) -> None:
    async with running(url, tmp_path) as (_, path, provider):
        body = event_body()
        headers = {name.title(): value for name, value in signed(HEX, body, NOW).items()}
        first = await provider.post(path + "?added=by-the-provider", content=body, headers=headers)
        again = await provider.post(path, content=body, headers=headers)
        assert (first.status_code, first.json()) == (200, {"status": "accepted"})
        assert (again.status_code, again.json()) == (200, {"status": "duplicate"})
        unrouted = event_body(workspace="nobody's")
        kept_none = await provider.post(path, content=unrouted, headers=signed(HEX, unrouted, NOW))
        assert (kept_none.status_code, kept_none.json()) == (202, {"status": "unrouted"})
        challenge = b'{"challenge":"<b>x</b>"}'
        echo = await provider.post(path, content=challenge, headers=signed(HEX, challenge, NOW))
        assert (echo.status_code, echo.json()) == (200, {"challenge": "<b>x</b>"})
        assert (echo.headers["content-type"], echo.headers["x-content-type-options"]) == ("application/json", "nosniff")


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_what_a_sender_can_do_wrong(url: str, tmp_path: Path) -> None:
    async with running(url, tmp_path, SALLYPORT_WEBHOOKS_MAX_BODY="64KiB") as (_, path, provider):
        body = event_body()
        good = signed(HEX, body, NOW)

        async def status(method: str, to: str, content: bytes, headers: dict[str, str]) -> str:
            answer = await provider.request(method, to, content=content, headers=headers)
            assert answer.headers["content-type"] == "application/problem+json"
            return f"{answer.status_code} {answer.json()['code']}"

        assert await status("POST", path, body, {}) == "401 signature_refused"
        assert await status("POST", path, body + b" ", good) == "401 signature_refused"
        assert await status("POST", path, b"\xff", good) == "400 invalid_request"
        assert await status("GET", path, b"", {}) == "405 method_not_allowed"
        assert await status("POST", path[:-1] + ("0" if path[-1] != "0" else "1"), body, good) == (
            "404 webhook_endpoint_not_found"
        )
        assert await status("POST", "/p/integration/webhooks/nonsense", body, good) == "400 invalid_request"
        assert await status("POST", path, b"x" * (64 * 1024 + 1), good) == "413 body_too_large"
        doubled = [*good.items(), *good.items()]
        answer = await provider.post(path, content=body, headers=doubled)
        assert answer.status_code == 401


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_a_body_without_a_length_is_bounded_too(url: str, tmp_path: Path) -> None:
    async with running(url, tmp_path, SALLYPORT_WEBHOOKS_MAX_BODY="64KiB") as (_, path, provider):

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(9):
                yield b"x" * 8192
                await asyncio.sleep(0)

        answer = await provider.post(path, content=chunks())
        assert answer.status_code == 413
        body = event_body()

        async def whole() -> AsyncIterator[bytes]:
            yield body

        answer = await provider.post(path, content=whole(), headers=signed(HEX, body, NOW))
        assert json.loads(answer.content) == {"status": "accepted"}
