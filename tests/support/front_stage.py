"""A front that listens, with a key of each tier, and a client of it."""

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2
from mcp.client.session import ClientSession
from mcp.client.streamable_http import streamable_http_client

from sallyport.net.setting_kinds import HostPort
from tests.support.integration_stage import IntegrationStage
from worker.api import serve
from worker.integrations.front import Front
from worker.integrations.front_admission import FileAdmission, FrontAdmission
from worker.integrations.front_keys import KeyFile
from worker.integrations.sandbox_passages import PassageLimits, SandboxPassages

ADMIN_KEY: Final = f"sp_sk_{'a' * 64}"
STANDARD_KEY: Final = f"sp_sk_{'b' * 64}"
NO_WAYS: Final = PassageLimits(connect_seconds=1, answer_seconds=1, body_bytes=1, sessions=1, calls=1)
OTHER_KEY: Final = f"sp_sk_{'c' * 64}"


@dataclass(frozen=True, slots=True)
class ListeningFront:
    """A front and where it is."""

    front: Front
    url: str
    keys: Path

    def path(self, integration_id: str) -> str:
        """Return the URL of a server."""
        return f"{self.url}/mcp/{integration_id}"

    def session(
        self, integration_id: str, key: str = ADMIN_KEY
    ) -> contextlib.AbstractAsyncContextManager[ClientSession]:
        """Return an initialized session with a server."""
        return session(self.path(integration_id), key)


@contextlib.asynccontextmanager
async def session(url: str, key: str) -> AsyncIterator[ClientSession]:
    """Yield an initialized session with a URL."""
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}"}, trust_env=False) as http,
        streamable_http_client(url, http_client=http) as (read, write),
        ClientSession(read, write) as begun,
    ):
        await begun.initialize()
        yield begun


@contextlib.asynccontextmanager
async def listening_front(
    stage: IntegrationStage,
    folder: Path,
    *,
    sessions: int = 16,
    admission: FrontAdmission | None = None,
    sandboxes: SandboxPassages | None = None,
) -> AsyncIterator[ListeningFront]:
    """Have a stage's servers called, by the keys of a file unless another decides."""
    keys = folder / "keys"
    lines = (("ops", "admin", ADMIN_KEY), ("all", "standard", STANDARD_KEY), ("more", "admin", OTHER_KEY))
    keys.write_text("".join(f"{name} {tier} {hashlib.sha256(key.encode()).hexdigest()}\n" for name, tier, key in lines))
    front = Front(
        stage.integrations,
        admission or FileAdmission(KeyFile(keys)),
        sandboxes or SandboxPassages(None, ssl.create_default_context(), NO_WAYS, stage.tasks),
        stage.tasks,
        allowed_hosts=frozenset({"mcp.example.com"}),
        allowed_origins=frozenset({"https://app.example.com"}),
        most_body_bytes=64 * 1024,
        most_sessions=sessions,
    )
    stop, started = asyncio.Event(), asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        group.create_task(
            serve(front, HostPort("127.0.0.1", 0), lambda host, port: started.set_result(port), stop, drain_seconds=1)
        )
        yield ListeningFront(front, f"http://127.0.0.1:{await started}", keys)
        stop.set()
    await front.close()
