"""The receiver, over real HTTP."""

import asyncio
import contextlib
import io
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest

from control_client import push_receiver
from control_client.feed_state import Tier
from control_client.push_receiver import DEFAULT_PATH, MAX_BODY_BYTES, PushReceiver, serve_pushes
from control_client.push_signature import ID, SIGNATURE, TIMESTAMP, sign
from sallyport.net.setting_kinds import HostPort
from sallyport.secret import Secret
from tests.support.until import until

SECRETS = {Tier.STANDARD: Secret(b"standard-secret"), Tier.ADMIN: Secret(b"admin-secret")}
NOW = 1_700_000_000
GOOD = {"Authorization": "Bearer standard-secret"}


class Receiving:
    """A receiver that listens, and what it handed on."""

    def __init__(self) -> None:
        self.port = 0
        self.delivered: list[tuple[Tier, bytes]] = []
        self.listens = asyncio.Event()

    def deliver(self, tier: Tier, body: bytes) -> None:
        self.delivered.append((tier, body))

    def started(self, host: str, port: int) -> None:
        self.port = port
        self.listens.set()

    async def post(self, body: bytes, headers: dict[str, str], path: str = DEFAULT_PATH) -> tuple[int, str]:
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"http://127.0.0.1:{self.port}{path}", data=io.BytesIO(body), headers=headers) as response,
        ):
            return response.status, await response.text()


@contextlib.asynccontextmanager
async def receiving() -> AsyncIterator[Receiving]:
    found, stop = Receiving(), asyncio.Event()
    receiver = PushReceiver(SECRETS, found.deliver, wall=lambda: NOW)
    async with asyncio.TaskGroup() as group:
        group.create_task(serve_pushes(receiver, HostPort("127.0.0.1", 0), found.started, stop))
        await found.listens.wait()
        yield found
        stop.set()


async def test_a_push_is_answered_and_handed_on_unread() -> None:
    async with receiving() as found:
        assert await found.post(b"no JSON at all", GOOD) == (200, '{"ok": true}')
        assert await found.post(b"{}", {"Authorization": "bearer admin-secret"}) == (200, '{"ok": true}')
        assert found.delivered == [(Tier.STANDARD, b"no JSON at all"), (Tier.ADMIN, b"{}")]


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "standard-secret",  # bare
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Bearer  standard-secret",
        "Bearer standard-secret2",
        "Basic standard-secret",
        "Bearer " + "x" * 5_000,
    ],
)
async def test_whoever_shows_no_secret_is_told_so_and_nothing_is_done(authorization: str | None) -> None:
    async with receiving() as found:
        headers = {} if authorization is None else {"Authorization": authorization}
        assert await found.post(b"{}", headers) == (401, '{"error": "Unauthorized"}')
        assert found.delivered == []


async def test_a_signature_is_checked_where_there_is_one() -> None:
    body = b'{"event": "config_changed"}'
    right = {ID: "msg_1", TIMESTAMP: str(NOW), SIGNATURE: sign(SECRETS[Tier.STANDARD], "msg_1", NOW, body)}
    others = sign(SECRETS[Tier.ADMIN], "msg_1", NOW, body)
    old = {TIMESTAMP: str(NOW - 301), SIGNATURE: sign(SECRETS[Tier.STANDARD], "msg_1", NOW - 301, body)}
    async with receiving() as found:
        assert (await found.post(body, GOOD | right))[0] == 200
        for wrong in ({SIGNATURE: others}, {SIGNATURE: "v1,x"}, {ID: "msg_2"}, old):
            assert await found.post(body, GOOD | right | wrong) == (401, '{"error": "Unauthorized"}')
        assert (await found.post(body + b" ", GOOD | right))[0] == 401
        assert len(found.delivered) == 1


async def test_a_body_has_an_end() -> None:
    async with receiving() as found:
        assert (await found.post(b"x" * MAX_BODY_BYTES, GOOD))[0] == 200
        assert (await found.post(b"x" * (MAX_BODY_BYTES + 1), GOOD))[0] == 413
        assert len(found.delivered) == 1


async def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_receiver, "BODY_SECONDS", 0.01)
    async with receiving() as found:
        reader, writer = await asyncio.open_connection("127.0.0.1", found.port)
        writer.write(
            f"POST {DEFAULT_PATH} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer standard-secret\r\n"
            "Content-Length: 10\r\n\r\nx".encode()
        )
        assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
        writer.close()
        await writer.wait_closed()
        assert found.delivered == []


async def test_a_body_that_cannot_be_undone_is_refused() -> None:
    async with receiving() as found:
        assert (await found.post(b"no gzip", GOOD | {"Content-Encoding": "gzip"}))[0] == 400
        assert found.delivered == []


async def test_a_sender_that_does_not_wait_for_its_answer_is_heard() -> None:
    async with receiving() as found:
        with socket.create_connection(("127.0.0.1", found.port)) as sender:
            sender.sendall(
                f"POST {DEFAULT_PATH} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer standard-secret\r\n"
                "Content-Length: 2\r\n\r\n{}".encode()
            )
            await until(lambda: bool(found.delivered))
    assert found.delivered == [(Tier.STANDARD, b"{}")]


async def test_other_paths_and_methods_are_not_its() -> None:
    async with receiving() as found:
        assert (await found.post(b"{}", GOOD, "/"))[0] == 404
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"http://127.0.0.1:{found.port}{DEFAULT_PATH}", headers=GOOD) as response,
        ):
            assert response.status == 405


def test_two_tiers_have_two_secrets() -> None:
    same = {Tier.STANDARD: Secret(b"x"), Tier.ADMIN: Secret(b"x")}
    with pytest.raises(ValueError, match="are the same"):
        PushReceiver(same, lambda tier, body: None, wall=lambda: NOW)
    assert repr(PushReceiver(SECRETS, lambda tier, body: None, wall=lambda: NOW)) == "<PushReceiver admin, standard>"
