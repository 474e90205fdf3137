"""The far side of an application over HTTP: the control plane, and the gateways that it names."""

import asyncio
import json
import ssl
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from control_client.documents import DocumentError, DocumentSession
from worker.apply_plan import NotYet, Placed, StepFailed
from worker.config import Control, Gateways

# What may be different a moment later: nobody there, too much to do, a gateway without its tunnel yet.
_PASSING = frozenset({None, 408, 409, 425, 429, 500, 502, 503, 504})


class HttpFarSide:
    """Ask with the worker's service tokens, read anew each time: a rotated one is used without a restart."""

    def __init__(self, control: Control, gateways: Gateways, request_seconds: float) -> None:
        self._control = control
        self._gateways = gateways
        self._request_seconds = request_seconds

    async def stored_plan(self, sandbox_id: str, revision: int) -> bytes:
        """Return the plan document."""
        return await self._ask_control("GET", f"/v1/sandboxes/{quote(sandbox_id)}/plans/{revision}")

    async def store_plan(self, sandbox_id: str, document: bytes) -> None:
        """Store a plan; putting it in force is a step of its application."""
        await self._ask_control("POST", f"/v1/sandboxes/{quote(sandbox_id)}/plans?inForce=false", document)

    async def put_in_force(self, sandbox_id: str, revision: int) -> None:
        """Make that revision the sandbox's current one; StepFailed where a newer one is."""
        order = json.dumps({"revision": revision}).encode()
        await self._ask_control("PUT", f"/internal/sandboxes/{quote(sandbox_id)}/plan", order, passing=_PASSING - {409})

    async def tunnel_tokens(self, sandbox_id: str) -> Mapping[str, object]:
        """Mint the tokens that the sandbox's sandboxd comes to a gateway with."""
        order = json.dumps({"kind": "tunnel"}).encode()
        answer = await self._ask_control("POST", f"/v1/sandboxes/{quote(sandbox_id)}/tokens", order)
        return _object(answer, "the control plane's tokens")

    async def placement(self, sandbox_id: str) -> Sequence[Placed]:
        """Return the gateways that hold the sandbox now."""
        answer = await self._ask_control("GET", f"/internal/sandboxes/{quote(sandbox_id)}/placement")
        try:
            return [_placed(entry) for entry in json.loads(answer)["gateways"]]
        except (ValueError, KeyError, TypeError):
            raise NotYet("the control plane's placement cannot be read") from None

    async def push_setup(self, admin_url: str, sandbox_id: str, document: bytes) -> None:
        """Hand the set-up document to the gateway that has the tunnel."""
        await self._ask_gateway(admin_url, "PUT", f"/v1/sandboxes/{quote(sandbox_id)}/setup", document)

    async def setup_status(self, admin_url: str, sandbox_id: str) -> Mapping[str, object]:
        """Return the last setup.status of the sandbox."""
        answer = await self._ask_gateway(admin_url, "GET", f"/v1/sandboxes/{quote(sandbox_id)}/setup")
        return _object(answer, "the gateway's set-up status")

    async def _ask_control(
        self, method: str, path: str, body: bytes | None = None, *, passing: frozenset[int | None] = _PASSING
    ) -> bytes:
        control = self._control
        return await self._ask(
            lambda: self._session(control.url, control.token_file, control.ca_file), method, path, body, passing
        )

    async def _ask_gateway(self, admin_url: str, method: str, path: str, body: bytes | None = None) -> bytes:
        gateways = self._gateways
        return await self._ask(
            # 404: this gateway has not heard of the sandbox yet, or no longer.
            lambda: self._session(admin_url, gateways.token_file, gateways.ca_file),
            method,
            path,
            body,
            _PASSING | {404},
        )

    def _session(self, url: str, token_file: Path | None, ca_file: Path | None) -> DocumentSession:
        try:
            token = None if token_file is None else token_file.read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            raise NotYet(f"the service token {token_file} cannot be read; write it there") from None
        trust = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
        try:
            return DocumentSession(url, token, trust=trust, timeout_seconds=self._request_seconds)
        except ValueError as error:
            raise StepFailed(str(error)) from None

    async def _ask(
        self,
        session: Callable[[], DocumentSession],
        method: str,
        path: str,
        body: bytes | None,
        passing: frozenset[int | None],
    ) -> bytes:
        try:
            return await asyncio.to_thread(lambda: session().ask(method, path, body))
        except DocumentError as error:
            if error.status in passing:
                raise NotYet(str(error)) from None
            raise StepFailed(str(error)) from None


def _object(answer: bytes, what: str) -> Mapping[str, object]:
    try:
        document = json.loads(answer)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise NotYet(f"{what} cannot be read")
    return document


def _placed(entry: Mapping[str, object]) -> Placed:
    revision = entry.get("revision")
    return Placed(
        gateway_id=str(entry["id"]),
        admin_url=str(entry["adminUrl"]),
        has_tunnel=entry["tunnel"] is True,
        revision=revision if isinstance(revision, int) else None,
    )
