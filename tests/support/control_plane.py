"""A control plane as tests use it: its foundation alone, or a real server on a free port with a client."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from control_client.plans import WATCH_HEADER, WATCH_WORD
from control_plane.app import ControlPlane, started
from control_plane.config import ControlPlaneConfig, load_config
from control_plane.definitions.registry import Registry
from control_plane.service_tokens import token_file
from sallyport.plan.codec import seal
from tests.support.plan_documents import plan_document, route_document

ORGANIZATION = "org_one"
SANDBOX = "sbx_one"
CONNECTION = "con_one"
TARGET = "hand-made"
SECRET = "sk-canary-2c1f"
# Unix time of tests that have no clock.
NOW = 1_800_000_000.0
WAIT_SECONDS = 10.0
# Metrics of a gateway that follows a control plane: it is known there, and has its keys.
LEASE_TAKEN = 'sallyport_control_requests_total{operation="lease",result="ok"}'
KEYS_TAKEN = 'sallyport_control_requests_total{operation="keys",result="ok"}'


def settings(folder: Path, url: str | None, **variables: str) -> ControlPlaneConfig:
    """Return settings for a data folder and a database."""
    given = {"SALLYPORT_DATA_DIR": str(folder), "SALLYPORT_API_LISTEN": "127.0.0.1:0", **variables}
    return load_config(given | ({"SALLYPORT_DATABASE_URL": url} if url else {}), folder)


def sealed_plan(
    revision: int = 1,
    *,
    sandbox_id: str = SANDBOX,
    organization_id: str = ORGANIZATION,
    routes: Sequence[object] | None = None,
    default: str = "passthrough",
) -> bytes:
    """Return a plan whose one route uses CONNECTION, or with these routes, as canonical JSON with its digest."""
    given = [route_document()] if routes is None else routes
    return seal(
        plan_document(given, default=default, sandboxId=sandbox_id, organizationId=organization_id, revision=revision)
    )


class Event(NamedTuple):
    """One event of the watch stream; comments are events of kind ':'."""

    id: int
    kind: str
    data: Any


class WatchReader:
    """Reads a watch stream event by event."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.aiter_lines()

    async def next(self, *kinds: str) -> Event:
        """Return the next event, of one of these kinds where any are named; comments are passed over unless named."""
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                event = await self._read()
                if event.kind in kinds or (not kinds and event.kind != ":"):
                    return event

    async def end(self) -> None:
        """Read to the end of the stream."""
        async with asyncio.timeout(WAIT_SECONDS):
            async for _ in self._lines:
                pass

    async def _read(self) -> Event:
        fields: dict[str, str] = {}
        async for line in self._lines:
            if line.startswith(":"):
                return Event(0, ":", line)
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "event" in fields:
                return Event(int(fields["id"]), fields["event"], json.loads(fields["data"]))
            else:
                fields = {}
        raise EOFError


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """A running control plane and a client with a service token for it."""

    plane: ControlPlane
    client: httpx.AsyncClient
    config: ControlPlaneConfig

    async def ask(
        self, method: str, path: str, body: object = None, *, status: int = 200, content: bytes | None = None
    ) -> Any:  # noqa: ANN401  JSON
        """Ask, check the status, return the answer's JSON (None where there is no body)."""
        sent: dict[str, Any] = {"content": content} if content is not None else {} if body is None else {"json": body}
        answer = await self.client.request(method, path, **sent)
        assert answer.status_code == status, (answer.status_code, answer.text)
        return answer.json() if answer.content else None

    async def refused(self, method: str, path: str, body: object = None, *, content: bytes | None = None) -> str:
        """Ask for what is refused; return `<status> <code>` after checking the form of the problem document."""
        sent: dict[str, Any] = {"content": content} if content is not None else {} if body is None else {"json": body}
        answer = await self.client.request(method, path, **sent)
        document = answer.json()
        assert answer.headers["content-type"] == "application/problem+json", answer.text
        assert set(document) - {"issues"} == {"type", "title", "status", "code", "detail", "requestId", "retryable"}
        assert document["status"] == answer.status_code
        assert document["requestId"] == answer.headers["x-request-id"]
        assert answer.headers["x-sallyport-error"] == document["code"]
        return f"{answer.status_code} {document['code']}"

    async def prepare(self, *, plan: bool = True) -> None:
        """Make the sandbox, its connection with SECRET, and a plan that uses it."""
        await self.ask("POST", "/v1/sandboxes", {"organizationId": ORGANIZATION, "sandboxId": SANDBOX}, status=201)
        await self.connect()
        if plan:
            await self.ask("POST", f"/v1/sandboxes/{SANDBOX}/plans", content=sealed_plan(), status=201)

    async def mint(self, kind: str, sandbox_id: str = SANDBOX) -> str:
        """Mint a sandbox's token."""
        issued = await self.ask("POST", f"/v1/sandboxes/{sandbox_id}/tokens", {"kind": kind}, status=201)
        return str(issued["token"])

    def followed_by(self, folder: Path) -> dict[str, object]:
        """Return the settings by which a gateway follows this control plane, its state in a folder."""
        return {
            "url": f"http://127.0.0.1:{self.plane.port}",
            "token_file": str(token_file(self.config.data_dir, "gateway")),
            "gateway_id": "gw_1",
            "state_dir": str(folder / "state"),
        }

    async def connect(self, connection_id: str = CONNECTION, **fields: object) -> Any:  # noqa: ANN401  JSON
        """Make a connection, or add a credential to it."""
        body = {"organizationId": ORGANIZATION, "connectionId": connection_id, "secretType": "api_key", "value": SECRET}
        path = f"/v1/integration/connections/{TARGET}/api-key"
        return await self.ask("POST", path, body | fields, status=201)

    @contextlib.asynccontextmanager
    async def caller(self, role: str, organization_id: str | None = None) -> AsyncIterator["Replica"]:
        """The same control plane, asked with an API key of this role."""
        body = {"role": role} | ({"organizationId": organization_id} if organization_id else {})
        made = await self.ask("POST", "/v1/api-keys", body, status=201)
        async with client_of(self.plane.port, made["key"]) as client:
            yield Replica(plane=self.plane, client=client, config=self.config)

    @contextlib.asynccontextmanager
    async def watch(
        self, last_id: int | None = None, *, knows_organizations: bool = True
    ) -> AsyncIterator[WatchReader]:
        """Open the watch stream, as a gateway does or (without organizations) as an older one did."""
        headers = {} if last_id is None else {"Last-Event-ID": str(last_id)}
        if knows_organizations:
            headers[WATCH_HEADER] = WATCH_WORD
        async with self.client.stream("GET", "/internal/plans/watch", headers=headers, timeout=None) as response:
            assert response.status_code == 200
            yield WatchReader(response)


def resolve_body(**changes: object) -> Mapping[str, object]:
    """Return the resolve request that fits sealed_plan(); None takes a member away."""
    body: dict[str, object] = {
        "sandboxId": SANDBOX,
        "planRevision": 1,
        "egressRuleId": "route",
        "bindingId": "bnd_one",
        "connectionId": CONNECTION,
        "secretType": "api_key",
    }
    return {name: value for name, value in (body | changes).items() if value is not None}


@contextlib.asynccontextmanager
async def replica(config: ControlPlaneConfig, registry: Registry | None = None) -> AsyncIterator[Replica]:
    """Start a control plane in this process, on a real port, with its own definitions unless others are given."""
    async with started(config, registry) as (plane, _):
        token = token_file(config.data_dir, "cli").read_text().strip()
        async with client_of(plane.port, token) as client:
            yield Replica(plane=plane, client=client, config=config)


def client_of(port: int, token: str) -> httpx.AsyncClient:
    """Return a client for a control plane on loopback."""
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False, timeout=WAIT_SECONDS
    )
