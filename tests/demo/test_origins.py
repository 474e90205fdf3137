"""The origins by themselves, reached directly: they accept the exact credential and nothing else."""

import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession, TCPConnector, encode_basic_auth

from demo.certificates import write_origin_files
from demo.ledger import Ledger, Presence
from demo.openai_api import SENTENCE
from demo.origins import HOSTS, Credentials, Origins, random_credentials, serve_origins

TEXT = "".join(SENTENCE)


@pytest.fixture(scope="module")
def credentials() -> Credentials:
    return random_credentials()


@pytest.fixture
async def origins(tmp_path: Path, credentials: Credentials) -> AsyncIterator[Origins]:
    async with serve_origins(tmp_path, credentials, os.environ["PATH"]) as running:
        yield running


@pytest.fixture
async def session(origins: Origins) -> AsyncIterator[ClientSession]:
    trust = ssl.create_default_context(cafile=origins.files.ca_file)
    async with ClientSession(connector=TCPConnector(ssl=trust)) as running:
        yield running


async def ask(
    session: ClientSession, origins: Origins, method: str, host: str, path: str, body: object = None, **headers: str
) -> tuple[int, str]:
    """Ask the origin of `host` directly; underscores of header names stand for hyphens."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()} | {"Host": host}
    url = f"https://127.0.0.1:{origins.port}{path}"
    async with session.request(method, url, json=body, headers=sent, server_hostname=host) as answer:
        return answer.status, await answer.text()


@pytest.mark.parametrize(
    ("host", "method", "path", "said"),
    [
        ("api.openai.com", "GET", "/v1/models", '"type": "invalid_request_error"'),
        ("api.openai.com", "GET", "/v1/no-such-path", '"type": "invalid_request_error"'),
        ("api.anthropic.com", "POST", "/v1/messages", '"type": "authentication_error"'),
        ("api.github.com", "GET", "/user", '"message": "Requires authentication"'),
        ("github.com", "GET", "/acme/widgets.git/info/refs?service=git-upload-pack", "Repository not found."),
    ],
)
async def test_no_credential_is_401_in_the_api_s_own_words(
    session: ClientSession, origins: Origins, host: str, method: str, path: str, said: str
) -> None:
    status, text = await ask(session, origins, method, host, path)
    assert status == 401
    assert said in text
    assert [entry.presence for entry in origins.ledger.received] == [Presence.ABSENT]


@pytest.mark.parametrize("change", [" ", "x", ""], ids=["trailing space inside", "one byte more", "one byte less"])
async def test_an_almost_right_credential_is_wrong(
    session: ClientSession, origins: Origins, credentials: Credentials, change: str
) -> None:
    key = credentials.openai_key
    almost = f"Bearer  {key}" if change == " " else f"Bearer {key}{change}" if change else f"Bearer {key[:-1]}"
    status, text = await ask(session, origins, "GET", "api.openai.com", "/v1/models", Authorization=almost)
    assert status == 401
    assert "invalid_api_key" in text
    assert key not in text
    assert origins.ledger.received[-1].presence is Presence.WRONG


async def test_the_exact_credential_is_accepted_and_never_kept(
    session: ClientSession, origins: Origins, credentials: Credentials
) -> None:
    bearer = f"Bearer {credentials.openai_key}"
    status, text = await ask(
        session, origins, "GET", "api.openai.com", "/v1/models", Authorization=bearer, X_Api_Key="a foreign key"
    )
    assert status == 200
    assert '"object": "list"' in text
    (entry,) = origins.ledger.received
    assert entry.presence is Presence.EXACT
    assert entry.foreign_headers == ("X-Api-Key",)
    assert credentials.openai_key not in repr(origins) + repr(entry) + str(entry) + repr(credentials)


async def test_a_streamed_completion_has_the_wire_format(
    session: ClientSession, origins: Origins, credentials: Credentials
) -> None:
    body = {"model": "gpt-4o-mini", "stream": True, "messages": []}
    status, text = await ask(
        session,
        origins,
        "POST",
        "api.openai.com",
        "/v1/chat/completions",
        body,
        Authorization=f"Bearer {credentials.openai_key}",
    )
    assert status == 200
    events = text.split("\n\n")
    assert all(event.startswith("data: {") for event in events[:-2])
    assert events[-2:] == ["data: [DONE]", ""]


async def test_anthropic_streams_named_events(
    session: ClientSession, origins: Origins, credentials: Credentials
) -> None:
    body = {"model": "claude", "stream": True, "max_tokens": 9, "messages": []}
    status, text = await ask(
        session, origins, "POST", "api.anthropic.com", "/v1/messages", body, X_Api_Key=credentials.anthropic_key
    )
    assert status == 200
    assert text.startswith("event: message_start\ndata: {")
    assert text.endswith('event: message_stop\ndata: {"type": "message_stop"}\n\n')


async def test_the_realtime_socket_echoes_after_the_exact_credential_only(
    session: ClientSession, origins: Origins, credentials: Credentials
) -> None:
    url = f"https://127.0.0.1:{origins.port}/v1/realtime"
    headers = {"Host": "api.openai.com", "Authorization": f"Bearer {credentials.openai_key}"}
    async with session.ws_connect(url, headers=headers) as socket:
        await socket.send_str("hello")
        assert await socket.receive_str() == "hello"
        await socket.send_bytes(b"\x00\xff")
        assert await socket.receive_bytes() == b"\x00\xff"
    status, _ = await ask(session, origins, "GET", "api.openai.com", "/v1/realtime", Upgrade="websocket")
    assert status == 401


async def test_git_advertises_the_seeded_branch(
    session: ClientSession, origins: Origins, credentials: Credentials
) -> None:
    pair = encode_basic_auth("x-access-token", credentials.github_token)
    status, text = await ask(
        session,
        origins,
        "GET",
        "github.com",
        "/acme/widgets.git/info/refs?service=git-upload-pack",
        Authorization=pair,
    )
    assert status == 200
    assert "refs/heads/main" in text


async def test_public_hosts_record_without_judging(session: ClientSession, origins: Origins) -> None:
    status, text = await ask(session, origins, "GET", "docs.example.net", "/", Authorization="whatever")
    assert (status, text) == (200, "public documentation\n")
    (entry,) = origins.ledger.received
    assert entry.presence is Presence.NOT_EXPECTED
    assert entry.foreign_headers == ("Authorization",)


def test_every_played_host_is_mapped(tmp_path: Path) -> None:
    files = write_origin_files(tmp_path, ["api.openai.com"])
    origins = Origins(port=4711, hosts=HOSTS, files=files, ledger=Ledger(), repositories=tmp_path)
    assert origins.connect_to()["api.github.com:443"] == "127.0.0.1:4711"
    assert files.key_file.stat().st_mode & 0o777 == 0o600
