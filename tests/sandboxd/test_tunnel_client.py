"""Keeping a tunnel against a gateway played by the test: tokens, drain, close codes, a gateway that comes and goes."""

import asyncio
import base64
import json
import stat
import time
from pathlib import Path

import pytest

from sandboxd.core import backoff, renewal
from sandboxd.tunnel_client import GatewayTunnel
from tests.support.passing_time import let_time_pass
from tests.support.sandboxd_in_process import SandboxdInProcess, in_process_sandboxd
from tests.support.scripted_gateway import ADMITTED, ScriptedGateway, refusal
from tests.support.transports import End
from tests.support.until import until

pytestmark = pytest.mark.uvloop

UNAUTHORIZED = refusal(401, "authentication_required")


def now() -> float:
    return time.time_ns() / 1e9


def jwt(name: str, seconds: float = 900) -> str:
    """Make what looks like a token: only its end is looked at here."""
    payload = json.dumps({"jti": name, "exp": int(now() + seconds)}).encode()
    return f"e30.{base64.urlsafe_b64encode(payload).decode().rstrip('=')}.{name}"


def response(request_id: str, token: str, renewal_token: str) -> dict[str, object]:
    return {
        "requestId": request_id,
        "token": token,
        "expiresAt": int(now() + 900),
        "renewalToken": renewal_token,
        "renewalExpiresAt": int(now() + 86400),
    }


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for nothing waits for the whole test; whoever asks, hardly at all."""
    monkeypatch.setattr(backoff, "STEPS_SECONDS", (0.0, 3600.0))
    monkeypatch.setattr(backoff, "ASKED_SECONDS", 0.01)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits that are policy (tests/sandboxd/core/test_backoff.py), shortened."""
    monkeypatch.setattr(backoff, "REFUSED_SECONDS", 0.2)
    monkeypatch.setattr(backoff, "REPLACED_SECONDS", 0.2)
    monkeypatch.setattr(backoff, "STEPS_SECONDS", (0.0, 0.01, 0.02))
    monkeypatch.setattr("sandboxd.tunnel_client.LOOK_SECONDS", 0.02)
    monkeypatch.setattr("sandboxd.tunnel_client.BEAT_SECONDS", 0.02)


def url(gateway: ScriptedGateway) -> str:
    return f"ws://127.0.0.1:{gateway.port}"


def bring(folder: Path, token: str, renewal_token: str = "") -> None:
    """Put another token file in the place of the one that is there."""
    new = folder / "new-token"
    new.write_text(json.dumps({"token": token, "renewalToken": renewal_token} if renewal_token else {"token": token}))
    new.rename(folder / "token")


async def in_use(sandboxd: SandboxdInProcess) -> None:
    await until(lambda: sandboxd.parts.gateway.tunnel is not None)


# ---- the beginning


async def test_the_token_is_shown_and_ready_is_said(tmp_path: Path, gateway: ScriptedGateway) -> None:
    async with in_process_sandboxd(tmp_path, url(gateway), token=jwt("one")):
        tunnel = await gateway.tunnel()
        assert tunnel.token.endswith(".one")
        await tunnel.heard("ready")
    assert (await tunnel.ended())[0] == 1000


async def test_a_gateway_that_comes_later_is_found(tmp_path: Path, gateway: ScriptedGateway) -> None:
    await gateway.vanish()
    async with in_process_sandboxd(tmp_path, url(gateway)):
        await gateway.listen()
        await gateway.tunnel()


@pytest.mark.usefixtures("patient")
async def test_a_program_that_waits_hastens_the_next_attempt(tmp_path: Path, gateway: ScriptedGateway) -> None:
    await gateway.vanish()
    async with in_process_sandboxd(tmp_path, url(gateway)) as sandboxd:
        client = sandboxd.sandboxd.client
        client._random = lambda: 0.5
        await until(lambda: client._attempt == 2)  # the first has failed, and the next is far away
        await gateway.listen()
        await sandboxd.connect("api.test:443")
        await gateway.tunnel()


@pytest.mark.parametrize(
    "answer",
    [
        refusal(503, "draining"),
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"SSH-2.0\r\n\r\n",
        b"x" * 20_000,
        b"",
    ],
)
async def test_an_answer_that_is_no_tunnel_is_tried_again(
    tmp_path: Path, gateway: ScriptedGateway, answer: bytes
) -> None:
    gateway.door = lambda token: answer if len(gateway.tokens) < 3 else None
    async with in_process_sandboxd(tmp_path, url(gateway)):
        await gateway.tunnel()
        assert len(gateway.tokens) == 3


async def test_t3_a_proxy_in_the_environment_is_ignored(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with in_process_sandboxd(tmp_path, url(gateway)):
        await gateway.tunnel()


# ---- control messages that are none


@pytest.mark.parametrize(
    "text",
    [
        b"nothing",
        b"[]",
        b"[" * 2000,
        b'{"type":"interception.set"}',
        b'{"type":"interception.set","revision":1,"hosts":[{"pattern":"a b","ports":[443]}]}',
        b'{"type":"interception.set","revision":1,"hosts":[{"pattern":"a.test","ports":[]}]}',
        b'{"type":"interception.set","revision":true,"hosts":[]}',
        b'{"type":"token.response","token":5}',
        b'{"type":"drain","deadlineSeconds":"soon"}',
        b'{"type":"setup.apply"}',
    ],
)
async def test_a_control_message_that_cannot_be_read_ends_the_tunnel(
    tmp_path: Path, gateway: ScriptedGateway, text: bytes
) -> None:
    async with in_process_sandboxd(tmp_path, url(gateway)):
        tunnel = await gateway.tunnel()
        tunnel.tunnel._send(0x1, text)
        assert (await tunnel.ended())[0] == 1008
        await gateway.tunnel()


async def test_a_control_message_of_a_newer_gateway_is_passed_over(tmp_path: Path, gateway: ScriptedGateway) -> None:
    async with in_process_sandboxd(tmp_path, url(gateway)) as sandboxd:
        tunnel = await gateway.tunnel()
        tunnel.say("tea.serve", cups=2)
        tunnel.manage(1, "api.test")
        await sandboxd.managed(1)
        assert tunnel.ends == []


# ---- tokens


async def test_the_token_is_renewed_at_half_life_and_the_renewal_token_kept(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    async with in_process_sandboxd(tmp_path, url(gateway), token=jwt("one")) as sandboxd:
        tunnel = await gateway.tunnel()
        await tunnel.heard("ready")
        clock = sandboxd.parts.clock
        held = sandboxd.sandboxd.client.tokens.renewal
        assert held.due(clock.wall + 400, "no") is None
        held._renew_at = clock.wall  # half of its life has passed
        asked = await tunnel.heard("token.request")
        second, renewal_token = jwt("two"), jwt("renewal-two", 86400)
        tunnel.say("token.response", **response(asked["requestId"], second, renewal_token))
        await until(lambda: held.tokens.token == second)
        state = sandboxd.state / "renewal.json"
        assert stat.S_IMODE(state.stat().st_mode) == 0o600
        assert json.loads(state.read_bytes())["renewalToken"] == renewal_token
        assert second.encode() not in state.read_bytes()
        tunnel.tunnel.close(4001, "drained")
        assert (await gateway.tunnel()).token == second


async def test_a_lost_answer_is_asked_for_by_the_same_id(tmp_path: Path, gateway: ScriptedGateway) -> None:
    async with in_process_sandboxd(tmp_path, url(gateway), token="opaque"):
        # The end of an opaque token is not known, so it is renewed at once.
        first = await gateway.tunnel()
        asked = await first.heard("token.request")
        first.tunnel.abort()
        second = await gateway.tunnel()
        assert (await second.heard("token.request"))["requestId"] == asked["requestId"]
        second.say("token.response", **response(asked["requestId"], jwt("two"), jwt("renewal", 86400)))
        second.manage(1, "api.test")
        second.tunnel.close(4001, "")
        assert (await gateway.tunnel()).token.endswith(".two")


async def test_an_answer_that_is_late_is_asked_for_again(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal, "ANSWER_SECONDS", 0.05)
    async with in_process_sandboxd(tmp_path, url(gateway), token="opaque"):
        tunnel = await gateway.tunnel()
        again = await tunnel.heard("token.request", 3)
        assert {each["requestId"] for each in tunnel.control if each["type"] == "token.request"} == {again["requestId"]}


async def test_a_refused_renewal_is_tried_later_under_another_id(
    tmp_path: Path, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal, "RETRY_SECONDS", 0.05)
    async with in_process_sandboxd(tmp_path, url(gateway), token="opaque"):
        tunnel = await gateway.tunnel()
        first = await tunnel.heard("token.request")
        tunnel.say("token.error", requestId=first["requestId"], code="unavailable", retryable=True)
        second = await tunnel.heard("token.request", 2)
        assert second["requestId"] != first["requestId"]


async def test_an_expired_tunnel_is_renewed_by_the_renewal_token(tmp_path: Path, gateway: ScriptedGateway) -> None:
    bring(tmp_path, jwt("one"), jwt("renewal", 86400))
    async with in_process_sandboxd(tmp_path, url(gateway)) as sandboxd:
        tunnel = await gateway.tunnel()
        assert tunnel.token.endswith(".one")
        tunnel.tunnel.close(4004, "expired")
        tunnel = await gateway.tunnel()
        assert tunnel.token.endswith(".renewal")
        tunnel.say("token.response", **response("ren_1", jwt("two"), jwt("renewal-two", 86400)))
        await until(lambda: (sandboxd.state / "renewal.json").exists())
        tunnel.tunnel.close(4001, "")
        assert (await gateway.tunnel()).token.endswith(".two")


async def test_a_sandbox_that_was_paused_comes_back_by_its_renewal_token(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    bring(tmp_path, jwt("old", -60), jwt("renewal", 3600))
    async with in_process_sandboxd(tmp_path, url(gateway)):
        assert (await gateway.tunnel()).token.endswith(".renewal")


async def test_a_killed_sandboxd_comes_back_by_what_it_kept(tmp_path: Path, gateway: ScriptedGateway) -> None:
    bring(tmp_path, jwt("old", -60), jwt("renewal", 3600))
    async with in_process_sandboxd(tmp_path, url(gateway)) as sandboxd:
        tunnel = await gateway.tunnel()
        tunnel.say("token.response", **response("ren_1", jwt("two"), jwt("renewal-two", 86400)))
        await until(lambda: (sandboxd.state / "renewal.json").exists())
    async with in_process_sandboxd(tmp_path, url(gateway)):
        # The one in the token file is used up by now.
        assert (await gateway.tunnel()).token.endswith(".renewal-two")
    bring(tmp_path, jwt("brought"), jwt("renewal-three", 3600))
    async with in_process_sandboxd(tmp_path, url(gateway)):
        assert (await gateway.tunnel()).token.endswith(".brought")


async def test_a_token_that_is_refused_gives_way_to_the_renewal_token(tmp_path: Path, gateway: ScriptedGateway) -> None:
    gateway.door = lambda token: UNAUTHORIZED if token.endswith(".one") else None
    bring(tmp_path, jwt("one"), jwt("renewal", 86400))
    async with in_process_sandboxd(tmp_path, url(gateway)):
        assert (await gateway.tunnel()).token.endswith(".renewal")
    assert len(gateway.tokens) == 2


async def test_401_for_everything_is_not_hammered(tmp_path: Path, gateway: ScriptedGateway) -> None:
    asked_at: list[float] = []

    def refuse(_: str) -> bytes:
        asked_at.append(now())
        return UNAUTHORIZED

    gateway.door = refuse
    async with in_process_sandboxd(tmp_path, url(gateway)):
        await until(lambda: len(asked_at) >= 3)
    assert asked_at[2] - asked_at[1] > 0.15


async def test_without_a_good_token_a_new_file_is_waited_for(tmp_path: Path, gateway: ScriptedGateway) -> None:
    async with in_process_sandboxd(tmp_path, url(gateway), token=jwt("old", -60)):
        bring(tmp_path, jwt("new"))
        assert (await gateway.tunnel()).token.endswith(".new")
    assert len(gateway.tokens) == 1


# ---- close codes


async def test_4003_stops_until_somebody_brings_a_token(tmp_path: Path, gateway: ScriptedGateway) -> None:
    bring(tmp_path, jwt("one"), jwt("renewal", 86400))
    async with in_process_sandboxd(tmp_path, url(gateway)):
        (await gateway.tunnel()).tunnel.close(4003, "revoked")
        await asyncio.sleep(0.3)  # nothing must happen
        assert len(gateway.tokens) == 1
        bring(tmp_path, jwt("two"))
        assert (await gateway.tunnel()).token.endswith(".two")


async def test_4002_waits_for_the_newer_tunnel_to_go(tmp_path: Path, gateway: ScriptedGateway) -> None:
    async with in_process_sandboxd(tmp_path, url(gateway)):
        first = await gateway.tunnel()
        began_at = now()
        first.tunnel.close(4002, "replaced")
        await gateway.tunnel()
        assert now() - began_at > 0.15


async def test_a_gateway_that_is_killed_and_started_again(tmp_path: Path, gateway: ScriptedGateway) -> None:
    async with in_process_sandboxd(tmp_path, url(gateway)) as sandboxd:
        for revision in (1, 2, 3):
            tunnel = await gateway.tunnel()
            tunnel.manage(revision, "api.test")
            await sandboxd.managed(revision)
            await gateway.vanish()
            await gateway.listen()
        await gateway.tunnel()
        managed = sandboxd.parts.gateway.managed
        assert managed is not None
        assert managed.revision == 3, "a set outlives its tunnel"


# ---- drain


async def test_until_there_is_a_new_tunnel_the_draining_one_is_used(tmp_path: Path, gateway: ScriptedGateway) -> None:
    async with in_process_sandboxd(tmp_path, url(gateway)) as sandboxd:
        old = await gateway.tunnel()
        old.manage(1, "api.test")
        await sandboxd.managed(1)
        sandboxd.sandboxd.client._random = lambda: 0.5  # a quarter of the deadline
        old.say("drain", deadlineSeconds=60)
        await until(lambda: _current(sandboxd).drain_seconds == 60)
        await sandboxd.connect("other.test:443")
        await old.stream()
        assert len(gateway.tokens) == 1
        assert old.ends == []


async def test_after_a_drain_streams_go_to_the_new_tunnel_and_the_old_one_ends_with_its_last(
    tmp_path: Path, gateway: ScriptedGateway
) -> None:
    async with in_process_sandboxd(tmp_path, url(gateway)) as sandboxd:
        old = await gateway.tunnel()
        old.manage(1, "api.test")
        await sandboxd.managed(1)
        kept = await sandboxd.connect("other.test:443")
        stream = await old.stream()
        stream.transport.write(ADMITTED)
        await kept.head()
        sandboxd.sandboxd.client._random = lambda: 0.0
        old.say("drain", deadlineSeconds=60)
        new = await gateway.tunnel()
        await until(lambda: sandboxd.parts.gateway.tunnel is not None and _current(sandboxd).drain_seconds is None)
        await sandboxd.connect("other.test:443")
        await new.stream()
        assert not old.has_streams()
        # What an old gateway still says of its plans is not listened to.
        old.manage(9, "other.test")
        kept.send(b"still here")
        await stream.until(lambda end: end.received.endswith(b"still here"))
        managed = sandboxd.parts.gateway.managed
        assert managed is not None
        assert managed.revision == 1
        assert old.ends == []
        kept.close()
        await stream.until_event("eof")
        stream.transport.close()
        assert (await old.ended())[0] == 1000


async def test_a_drain_whose_deadline_passes_ends_the_old_tunnel(tmp_path: Path, gateway: ScriptedGateway) -> None:
    async with in_process_sandboxd(tmp_path, url(gateway)) as sandboxd:
        old = await gateway.tunnel()
        old.manage(1, "api.test")
        await sandboxd.managed(1)
        kept = await sandboxd.connect("other.test:443")
        (await old.stream()).transport.write(ADMITTED)
        await kept.head()
        sandboxd.sandboxd.client._random = lambda: 0.0
        old.say("drain", deadlineSeconds=300)
        await gateway.tunnel()
        await until(lambda: _current(sandboxd).drain_seconds is None)
        let_time_pass(sandboxd.parts.clock, 310)
        assert (await old.ended())[0] == 1000
        await kept.gone()


# ---- what the gateway opens


async def test_a_stream_the_gateway_opens_for_nothing_is_404(tmp_path: Path, gateway: ScriptedGateway) -> None:
    async with in_process_sandboxd(tmp_path, url(gateway)):
        tunnel = await gateway.tunnel()
        end = End()
        stream = tunnel.tunnel.open_stream(end)
        stream.write(b"CONNECT endpoint/nobody/nothing HTTP/1.1\r\nHost: sandbox\r\n\r\n")
        await end.until_event("eof")
        assert end.received.startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize("head", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"x\r\n\r\n", b"y" * 5000])
async def test_a_stream_without_such_a_head_is_reset(tmp_path: Path, gateway: ScriptedGateway, head: bytes) -> None:
    async with in_process_sandboxd(tmp_path, url(gateway)):
        tunnel = await gateway.tunnel()
        end = End()
        tunnel.tunnel.open_stream(end).write(head)
        await end.until_event("lost")
        assert end.received == b""
        assert tunnel.ends == []


def _current(sandboxd: SandboxdInProcess) -> GatewayTunnel:
    current = sandboxd.sandboxd.client._current
    assert current is not None
    return current
