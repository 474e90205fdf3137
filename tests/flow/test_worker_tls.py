"""A real worker with TLS under a real control plane: whose tokens it takes."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from control_plane.foundation import foundation
from control_plane.service_tokens import token_file
from demo.certificates import OriginFiles, write_origin_files
from sallyport.net.clock import read_wall
from sallyport.net.listener_tls import ListenerTlsError
from tests.support.control_plane import SANDBOX, Replica, replica, settings
from worker.app import Worker
from worker.config import WorkerConfig, load_config

pytestmark = pytest.mark.uvloop

APPLICATIONS = "/v1/plan-applications"


@dataclass
class Abroad:
    """A worker that is reachable from everywhere."""

    plane: Replica
    url: str
    trust: ssl.SSLContext

    async def token(self, audience: str) -> str:
        """Have the control plane sign a service token."""
        async with foundation(self.plane.config, now=read_wall(), prepare=False) as base:
            minted = await base.ring.mint(audience=audience, subject="operator", ttl_seconds=60, now=read_wall())
        return minted.token

    async def begin(self, token: str | None) -> httpx.Response:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=self.url, verify=self.trust, trust_env=False, headers=headers) as client:
            return await client.post(APPLICATIONS, json={"sandboxId": SANDBOX, "revision": 1})


def config(plane: Replica, files: OriginFiles, folder: Path) -> WorkerConfig:
    prefix = "SALLYPORT_WORKER"
    return load_config(
        {
            f"{prefix}_LISTEN": "0.0.0.0:0",
            f"{prefix}_API_URL": "https://worker.test",
            f"{prefix}_TLS_CERTIFICATE_FILE": str(files.certificate_file),
            f"{prefix}_TLS_KEY_FILE": str(files.key_file),
            f"{prefix}_CONTROL_URL": f"http://127.0.0.1:{plane.plane.port}",
            f"{prefix}_CONTROL_TOKEN_FILE": str(token_file(plane.config.data_dir, "worker")),
        },
        folder,
    )


@pytest.fixture
def files(tmp_path: Path) -> OriginFiles:
    return write_origin_files(tmp_path, ["127.0.0.1"])


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Replica]:
    async with replica(settings(tmp_path / "plane", None)) as plane:
        await plane.prepare()
        yield plane


@pytest.fixture
async def abroad(plane: Replica, files: OriginFiles, tmp_path: Path) -> AsyncIterator[Abroad]:
    worker, stop = Worker(config(plane, files, tmp_path)), asyncio.Event()
    started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    worker.on_ready = lambda host, port: started.set_result(port)
    trust = ssl.create_default_context(cafile=files.ca_file)
    async with asyncio.TaskGroup() as group:
        group.create_task(worker.run(stop))
        yield Abroad(plane, f"https://127.0.0.1:{await started}", trust)
        stop.set()


async def test_who_has_a_service_token_is_let_in(abroad: Abroad) -> None:
    answer = await abroad.begin(await abroad.token("sallyport-worker"))
    assert answer.status_code == 202
    assert answer.json()["applicationId"]


async def test_nobody_else_is(abroad: Abroad) -> None:
    for token in (None, "x", await abroad.token("sallyport-control")):
        answer = await abroad.begin(token)
        assert (answer.status_code, answer.json()["error"]["category"]) == (401, "Unauthorized")
        assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_its_health_needs_no_token_and_nothing_goes_in_cleartext(abroad: Abroad) -> None:
    async with httpx.AsyncClient(verify=abroad.trust, trust_env=False) as client:
        assert (await client.get(f"{abroad.url}/healthz")).json() == {"status": "ok"}
        assert (await client.get(f"{abroad.url}/healthz", headers={"Origin": "https://x.test"})).status_code == 403
        assert (await client.get(f"{abroad.url}/openapi.json")).status_code == 401
        with pytest.raises(httpx.HTTPError):
            await client.get(abroad.url.replace("https", "http") + "/healthz")


async def test_a_key_that_others_may_read_stops_the_start(plane: Replica, files: OriginFiles, tmp_path: Path) -> None:
    files.key_file.chmod(0o644)
    with pytest.raises(ListenerTlsError, match="others may read"):
        await Worker(config(plane, files, tmp_path)).run(asyncio.Event())
