"""Start, the whole of it, and what stops it."""

import asyncio
import socket
from pathlib import Path

import pytest

from control_plane.app import started
from control_plane.foundation import StartError, foundation
from tests.support.control_plane import NOW, SANDBOX, SECRET, Replica, client_of, replica, resolve_body, settings
from tests.support.postgres import PostgresServer


async def test_everything_survives_a_restart(tmp_path: Path) -> None:
    config = settings(tmp_path / "data", None)
    async with replica(config) as api:
        await api.prepare()
        first = await api.ask("POST", "/internal/integration-credentials/resolve", resolve_body())
        authority = await api.ask("GET", f"/internal/sandboxes/{SANDBOX}/interception-ca")
        token = api.client.headers["authorization"].removeprefix("Bearer ")
    async with replica(config) as api:
        assert await api.ask("POST", "/internal/integration-credentials/resolve", resolve_body()) == first
        assert await api.ask("GET", f"/internal/sandboxes/{SANDBOX}/interception-ca") == authority
        async with client_of(api.plane.port, token) as client:
            assert (await client.get(f"/v1/sandboxes/{SANDBOX}")).status_code == 200
    for path in (tmp_path / "data").iterdir():
        assert SECRET.encode() not in path.read_bytes(), path


async def test_a_database_that_goes_away_and_comes_back(
    postgres: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    async with replica(settings(tmp_path / "data", postgres_url)) as api:
        await api.prepare()
        name = postgres_url.partition("@/")[2].partition("?")[0]
        postgres.run("postgres", f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        try:
            postgres.run("postgres", f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
            assert await _refused_while_away(api) == "503 database_unavailable"
            answer = await api.client.get("/readyz")
            assert (answer.status_code, answer.json()["status"]) == (503, "not_ready")
            assert (await api.client.get("/healthz")).status_code == 200
            away = await api.client.get("/internal/plans/watch")
            assert (away.status_code, away.headers["retry-after"]) == (503, "2")
        finally:
            postgres.run("postgres", f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        assert (await api.client.get("/readyz")).status_code == 200
        assert (await api.ask("POST", "/internal/integration-credentials/resolve", resolve_body()))["value"] == SECRET


async def _refused_while_away(api: Replica) -> str:
    return await api.refused("POST", "/internal/integration-credentials/resolve", resolve_body())


async def test_open_streams_do_not_hold_up_the_end(tmp_path: Path) -> None:
    async with asyncio.timeout(8), started(settings(tmp_path / "data", None)) as (plane, serving):
        token = (tmp_path / "data" / "service-token.cli").read_text().strip()
        async with client_of(plane.port, token) as client, client.stream("GET", "/internal/plans/watch") as stream:
            assert stream.status_code == 200
            plane.begin_stop()
            assert b"event: snapshot" in b"".join([chunk async for chunk in stream.aiter_bytes()])
        await serving


async def test_a_taken_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = settings(tmp_path, None, SALLYPORT_API_LISTEN=f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(StartError, match=r"api\.listen.*cannot be listened on"):
            async with started(config):
                pass


async def test_another_master_key_file_does_not_start(tmp_path: Path) -> None:
    async with foundation(settings(tmp_path, None), now=NOW):
        pass
    (tmp_path / "master.keys").unlink()
    with pytest.raises(StartError, match="is not the one in use"):
        async with started(settings(tmp_path, None)):
            pass
