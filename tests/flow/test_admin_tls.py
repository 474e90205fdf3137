"""The admin listener off loopback: TLS, a service token for everything but its health, and who works with that."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from control_client.documents import DocumentError, DocumentSession
from demo.certificates import OriginFiles, write_origin_files
from gateway.starting import StartError
from sallyport.plan.codec import seal
from sallyport_cli.overview import GatewayAccess, gateway_rows, gather
from tests.support.bad_tokens import BAD_TOKENS, good_token
from tests.support.gateway_plans import SANDBOX
from tests.support.in_process import GatewayInProcess, in_process_gateway, signed_token
from tests.support.plan_documents import plan_document
from tests.support.scripted_http import scripted_http
from worker.apply_plan import NotYet, StepFailed
from worker.config import Control, Gateways
from worker.far_side import HttpFarSide

AUDIENCE = "sallyport-gateway"


@dataclass
class Abroad:
    """A gateway whose admin listener is reachable from everywhere, and what it takes to reach it."""

    gateway: GatewayInProcess
    url: str
    files: OriginFiles
    token: str

    async def get(self, path: str, token: str | None, *, ca_file: Path | None = None) -> bytes:
        trust = ssl.create_default_context(cafile=ca_file or self.files.ca_file)
        session = DocumentSession(self.url, token, trust=trust)
        return await asyncio.to_thread(session.ask, "GET", path)

    async def refusal(self, path: str, token: str | None) -> tuple[int | None, str | None]:
        with pytest.raises(DocumentError) as caught:
            await self.get(path, token)
        return caught.value.status, caught.value.code


def settings(files: OriginFiles) -> dict[str, dict[str, object]]:
    tls = {"certificate_file": str(files.certificate_file), "key_file": str(files.key_file)}
    return {"listen": {"admin": "0.0.0.0:0"}, "admin": {"tls": tls}}


@pytest.fixture
async def abroad(tmp_path: Path) -> AsyncIterator[Abroad]:
    (tmp_path / "admin").mkdir()
    files = write_origin_files(tmp_path / "admin", ["127.0.0.1"])
    async with in_process_gateway(
        tmp_path, plan=seal(plan_document(sandboxId=SANDBOX)), further=settings(files)
    ) as gateway:
        url = f"https://127.0.0.1:{gateway.gateway.admin_port}"
        yield Abroad(gateway, url, files, signed_token(AUDIENCE, "operator"))


async def test_health_alone_needs_no_token(abroad: Abroad) -> None:
    assert json.loads(await abroad.get("/healthz", None)) == {"status": "ok"}
    for path in ("/readyz", "/metrics", "/v1/sandboxes", f"/v1/sandboxes/{SANDBOX}/plan", "/v1/flows", "/nothing"):
        assert await abroad.refusal(path, None) == (401, "authentication_required")
    assert b"sallyport_requests_total" in await abroad.get("/metrics", abroad.token)
    assert SANDBOX in str(await abroad.get("/v1/sandboxes", abroad.token))


async def test_t1_a_bad_token_is_401(abroad: Abroad) -> None:
    for name, make in BAD_TOKENS.items():
        found = await abroad.refusal("/v1/sandboxes", make(AUDIENCE, "operator"))
        assert (name, *found) == (name, 401, "authentication_required")
    await abroad.get("/v1/sandboxes", good_token(AUDIENCE, "operator"))


async def test_a_token_of_another_audience_or_one_that_was_revoked_is_none(abroad: Abroad) -> None:
    refused = (401, "authentication_required")
    assert await abroad.refusal("/readyz", signed_token("sallyport-control", "operator")) == refused
    assert await abroad.refusal("/readyz", signed_token("sallyport-proxy")) == refused
    await abroad.get("/readyz", abroad.token)
    claims = abroad.gateway.parts.tunnel_tokens
    abroad.gateway.gateway.revoke("sandbox", "operator", 4_000_000_000.0)
    assert claims.revocations is abroad.gateway.parts.revocations
    assert await abroad.refusal("/readyz", abroad.token) == refused


async def test_a_token_for_denials_opens_nothing_else(abroad: Abroad) -> None:
    token = signed_token("sallyport-denials", "control-plane")
    assert json.loads(await abroad.get("/v1/denials", token))["items"] == []
    for path in ("/readyz", "/metrics", "/v1/sandboxes", "/v1/flows", f"/v1/sandboxes/{SANDBOX}/plan"):
        assert await abroad.refusal(path, token) == (401, "authentication_required")
    await abroad.get("/v1/denials", abroad.token)
    assert await abroad.refusal("/v1/denials", None) == (401, "authentication_required")


async def test_cleartext_and_another_authority_get_nowhere(abroad: Abroad, tmp_path: Path) -> None:
    cleartext = DocumentSession(abroad.url.replace("https", "http"), timeout_seconds=5)
    with pytest.raises(DocumentError) as caught:
        await asyncio.to_thread(cleartext.ask, "GET", "/healthz")
    assert caught.value.status is None
    (tmp_path / "other").mkdir()
    other = write_origin_files(tmp_path / "other", ["127.0.0.1"])
    with pytest.raises(DocumentError, match=r"(?i)certificate"):
        await abroad.get("/healthz", None, ca_file=other.ca_file)


async def test_status_sees_it_with_a_token(abroad: Abroad) -> None:
    trust = ssl.create_default_context(cafile=abroad.files.ca_file)
    with scripted_http() as control:
        control.answer("/internal/gateways", {"items": [{"id": "gw_1", "adminUrl": abroad.url}]})
        session = DocumentSession(control.url, "t")
        seen = await asyncio.to_thread(gather, session, GatewayAccess(abroad.token, trust), 0.0)
        [row] = gateway_rows(seen, None)
        assert row[:4] == ("gw_1", "ready", "0", "0")
        [unseen] = gateway_rows(await asyncio.to_thread(gather, session, GatewayAccess(None, trust), 0.0), None)
    assert "401" in unseen[1]


async def test_the_worker_reaches_it_with_its_token_file(abroad: Abroad, tmp_path: Path) -> None:
    (tmp_path / "worker.token").write_text(signed_token(AUDIENCE, "worker"))
    control = Control(url="http://127.0.0.1:1", token_file=tmp_path / "worker.token")
    gateways = Gateways(token_file=tmp_path / "worker.token", ca_file=abroad.files.ca_file)
    side = HttpFarSide(control, gateways, request_seconds=5)
    with pytest.raises(NotYet, match=r"409 to GET .*/setup"):  # it was let in, and there is no tunnel
        await _status(side, abroad.url)
    (tmp_path / "worker.token").write_text("no token")
    with pytest.raises(StepFailed, match="401"):
        await _status(side, abroad.url)


async def test_what_cannot_be_shown_stops_the_start(tmp_path: Path) -> None:
    files = write_origin_files(tmp_path, ["127.0.0.1"])
    files.key_file.chmod(0o640)
    with pytest.raises(StartError, match=r"admin.tls: others may read the private key .*; chmod 600"):
        async with in_process_gateway(tmp_path, further=settings(files)):
            pass


async def _status(side: HttpFarSide, url: str) -> None:
    await side.setup_status(url, SANDBOX)


async def test_the_time_left_of_its_certificate_is_shown(abroad: Abroad) -> None:
    lines = (await abroad.get("/metrics", abroad.token)).decode().splitlines()
    ((name, left),) = [line.split(" ") for line in lines if line.startswith("sallyport_expiry_seconds{")]
    assert (name, float(left) > 3600) == ('sallyport_expiry_seconds{of="admin_certificate"}', True)
