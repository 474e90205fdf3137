"""The far side over real HTTP: what passes, what is final, and that the token is read anew."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from worker.apply_plan import NotYet, Placed, StepFailed
from worker.config import Control, Gateways
from worker.far_side import HttpFarSide


@dataclass
class Scripted:
    """A control plane and a gateway in one, with one answer for everything."""

    status: int = 200
    body: str = "{}"
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    url: str = ""

    async def answer(self, request: web.Request) -> web.Response:
        await request.read()
        self.asked.append((request.method, request.path, request.headers.get("Authorization")))
        return web.Response(status=self.status, text=self.body, content_type="application/json")


@pytest.fixture
async def scripted() -> AsyncIterator[Scripted]:
    scripted = Scripted()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", scripted.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    scripted.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield scripted
    await runner.cleanup()


def far_side(scripted: Scripted, folder: Path) -> HttpFarSide:
    (folder / "token").write_text("first\n")
    control = Control(url=scripted.url, token_file=folder / "token")
    return HttpFarSide(control, Gateways(), request_seconds=5)


async def test_it_asks_with_the_token_that_is_there_now(scripted: Scripted, tmp_path: Path) -> None:
    side = far_side(scripted, tmp_path)
    await side.put_in_force("sbx_1", 3)
    (tmp_path / "token").write_text("second")
    await side.stored_plan("sbx_1", 3)
    assert scripted.asked == [
        ("PUT", "/internal/sandboxes/sbx_1/plan", "Bearer first"),
        ("GET", "/v1/sandboxes/sbx_1/plans/3", "Bearer second"),
    ]


async def test_tokens_of_a_tunnel_are_minted(scripted: Scripted, tmp_path: Path) -> None:
    scripted.body = '{"token": "t", "renewalToken": "r", "expiresAt": 1}'
    assert (await far_side(scripted, tmp_path).tunnel_tokens("sbx_1"))["renewalToken"] == "r"
    assert scripted.asked == [("POST", "/v1/sandboxes/sbx_1/tokens", "Bearer first")]
    scripted.body = "[]"
    with pytest.raises(NotYet, match="the control plane's tokens cannot be read"):
        await far_side(scripted, tmp_path).tunnel_tokens("sbx_1")


async def test_the_placement_is_read(scripted: Scripted, tmp_path: Path) -> None:
    scripted.body = '{"gateways": [{"id": "gw", "adminUrl": "http://x:1", "tunnel": true, "revision": null}]}'
    assert await far_side(scripted, tmp_path).placement("sbx_1") == [
        Placed(gateway_id="gw", admin_url="http://x:1", has_tunnel=True, revision=None)
    ]


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"gateways": [{}]}', '{"gateways": 3}'])
async def test_a_placement_that_cannot_be_read_may_be_better_later(
    scripted: Scripted, tmp_path: Path, body: str
) -> None:
    scripted.body = body
    with pytest.raises(NotYet, match="cannot be read"):
        await far_side(scripted, tmp_path).placement("sbx_1")


@pytest.mark.parametrize(("status", "kind"), [(503, NotYet), (429, NotYet), (404, StepFailed), (422, StepFailed)])
async def test_statuses_of_the_control_plane(
    scripted: Scripted, tmp_path: Path, status: int, kind: type[Exception]
) -> None:
    scripted.status, scripted.body = status, '{"code": "x", "detail": "why"}'
    with pytest.raises(kind, match="why"):
        await far_side(scripted, tmp_path).stored_plan("sbx_1", 1)


async def test_an_older_revision_is_final(scripted: Scripted, tmp_path: Path) -> None:
    scripted.status, scripted.body = 409, '{"code": "plan_conflict", "detail": "revision 4 is in force"}'
    with pytest.raises(StepFailed, match="revision 4 is in force"):
        await far_side(scripted, tmp_path).put_in_force("sbx_1", 3)


async def test_a_gateway_that_has_no_tunnel_yet_passes(scripted: Scripted, tmp_path: Path) -> None:
    scripted.status, scripted.body = 409, '{"code": "no_tunnel", "detail": "no tunnel"}'
    with pytest.raises(NotYet, match="no tunnel"):
        await far_side(scripted, tmp_path).push_setup(scripted.url, "sbx_1", b"{}")


async def test_nobody_there_and_no_token_pass(tmp_path: Path) -> None:
    side = HttpFarSide(Control(url="http://127.0.0.1:1", token_file=tmp_path / "none"), Gateways(), 1)
    with pytest.raises(NotYet, match="service token"):
        await side.stored_plan("sbx_1", 1)
    (tmp_path / "none").write_text("t")
    with pytest.raises(NotYet, match="refused"):
        await side.stored_plan("sbx_1", 1)


async def test_an_address_that_the_token_would_go_to_in_cleartext_fails_the_step(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    side = HttpFarSide(Control(url="http://control.test", token_file=tmp_path / "token"), Gateways(), request_seconds=5)
    with pytest.raises(StepFailed, match="cleartext off loopback"):
        await side.stored_plan("sbx_1", 3)
