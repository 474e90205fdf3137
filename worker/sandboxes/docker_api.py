"""The Docker HTTP API over its socket, as far as sandboxes need it. Podman's service speaks it as well."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp

from worker.sandboxes.errors import SandboxError, failed

# The oldest that has all of this: Docker 20.10, Podman 4.
VERSION: Final = "v1.41"
MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024
# A daemon that stops a container answers when it has.
REQUEST_SECONDS: Final = 60.0
# Of what a container prints each piece has a head: the stream, three zeros, the length.
_PIECE_HEAD_BYTES: Final = 8


class NotThere(SandboxError):
    """There is no such container."""


class DockerApi:
    """One daemon. Made on a running loop; closed by close()."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._http = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(socket)),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_SECONDS),
        )

    async def close(self) -> None:
        """Ask nothing more."""
        await self._http.close()

    async def create(self, name: str, document: Mapping[str, object]) -> None:
        """Make a container; raises SandboxError."""
        await self._ask("POST", f"/containers/create?name={name}", document)

    async def start(self, name: str) -> None:
        """Start a container, also one that runs; raises SandboxError."""
        await self._ask("POST", f"/containers/{name}/start")

    async def stop(self, name: str, seconds: float) -> None:
        """End a container by SIGTERM, after that time by SIGKILL; raises SandboxError."""
        await self._ask("POST", f"/containers/{name}/stop?t={int(seconds)}", seconds=REQUEST_SECONDS + seconds)

    async def inspect(self, name: str) -> Mapping[str, Any]:
        """Return what is known of a container; raises NotThere, SandboxError."""
        found: Mapping[str, Any] = await self._ask("GET", f"/containers/{name}/json")
        return found

    async def labels(self, image: str) -> Mapping[str, str]:
        """Return the labels of an image; raises NotThere, SandboxError."""
        found = await self._ask("GET", f"/images/{image}/json")
        return (found.get("Config") or {}).get("Labels") or {}

    async def begin(self, name: str, command: Sequence[str]) -> str:
        """Start a program in a container that runs, as its user; returns the program's id. Raises SandboxError."""
        made = await self._ask("POST", f"/containers/{name}/exec", {"Cmd": [*command]})
        await self._ask("POST", f"/exec/{made['Id']}/start", {"Detach": True})
        return str(made["Id"])

    async def process_of(self, program: str) -> int:
        """Return the process of what `begin` has started, 0 where it has ended; raises NotThere, SandboxError.

        Podman goes on telling the number of a process that is no more.
        """
        found = await self._ask("GET", f"/exec/{program}/json")
        return int(found["Pid"]) if found["Running"] else 0

    async def remove(self, name: str) -> None:
        """End a container and take it away with what it wrote; raises SandboxError."""
        await self._ask("DELETE", f"/containers/{name}?force=true&v=true")

    async def labelled(self, label: str) -> Sequence[Mapping[str, Any]]:
        """Return all containers with a label, given as name=value; raises SandboxError."""
        filters = json.dumps({"label": [label]})
        found: Sequence[Mapping[str, Any]] = await self._ask(
            "GET", "/containers/json", params={"all": "true", "filters": filters}
        )
        return found

    async def logs(self, name: str, lines: int) -> list[str]:
        """Return the last lines that a container printed; raises SandboxError."""
        params = {"stdout": "true", "stderr": "true", "tail": str(lines)}
        data = await self._read("GET", f"/containers/{name}/logs", None, params, REQUEST_SECONDS)
        printed = b""
        while len(data) >= _PIECE_HEAD_BYTES:
            length = int.from_bytes(data[4:_PIECE_HEAD_BYTES], "big")
            printed += data[_PIECE_HEAD_BYTES : _PIECE_HEAD_BYTES + length]
            data = data[_PIECE_HEAD_BYTES + length :]
        return printed.decode(errors="replace").splitlines()[-lines:]

    async def _ask(
        self,
        method: str,
        path: str,
        document: Mapping[str, object] | None = None,
        params: Mapping[str, str] | None = None,
        seconds: float | None = REQUEST_SECONDS,
    ) -> Any:  # noqa: ANN401  JSON
        answer = await self._read(method, path, document, params, seconds)
        try:
            return json.loads(answer) if answer.strip() else {}
        except ValueError:
            raise failed(f"Docker's answer to {method} {path} cannot be read") from None

    async def _read(
        self,
        method: str,
        path: str,
        document: Mapping[str, object] | None,
        params: Mapping[str, str] | None,
        seconds: float | None,
    ) -> bytes:
        try:
            async with (
                asyncio.timeout(seconds),
                self._http.request(method, f"http://docker/{VERSION}{path}", json=document, params=params) as response,
            ):
                answer = b""
                async for piece in response.content.iter_any():
                    answer += piece
                    if len(answer) > MAX_ANSWER_BYTES:
                        raise failed(f"Docker's answer to {method} {path} is too long")
        except TimeoutError:
            raise failed(f"Docker did not answer {method} {path} in time") from None
        except (aiohttp.ClientError, OSError) as error:
            raise failed(f"Docker cannot be asked at {self._socket}: {error}") from None
        if response.status in (200, 201, 204, 304):
            return answer
        raise _refused(response.status, answer, f"{method} {path}")


def _refused(status: int, answer: bytes, what: str) -> SandboxError:
    try:
        reason = str(json.loads(answer)["message"])
    except (ValueError, KeyError, TypeError):
        reason = f"status {status}"
    error = failed(f"Docker refuses {what}: {reason[:500]}")
    return NotThere(error.category, str(error)) if status == 404 else error
