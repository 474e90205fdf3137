"""What a worker tells the control plane and is told, as it is sent and read."""

import json
from pathlib import Path

import pytest

from control_client.errors import ControlError
from control_client.registrations import (
    MAX_TOOLS,
    RunningServer,
    declared_servers,
    gateway_revisions,
    put_worker,
    withdraw_worker,
)
from control_client.session import ControlSession
from tests.support.control_sessions import control_session
from tests.support.fake_control import answer

PATH = "/internal/v1/workers/wrk_1"
GATEWAYS = "/internal/gateways"
SERVERS = [
    RunningServer("time", "standard", "running", ["now"]),
    RunningServer("git", "admin", "stopped", ["x" * 257, "", *map(str, range(MAX_TOOLS + 1))], "sbx_one"),
]


async def report(session: ControlSession, front_url: str | None = None) -> int:
    url = "http://127.0.0.1:4200"
    return await put_worker(session, "wrk_1", epoch=12, api_url=url, front_url=front_url, servers=SERVERS)


async def test_a_report(tmp_path: Path) -> None:
    async with control_session(tmp_path) as (fake, session, counts):
        fake.misbehave(PATH, *[answer(200, b'{"expiresInSeconds": 30}')] * 2)
        assert await report(session) == 30
        assert await report(session, "https://front.test:443") == 30
        first, second = fake.bodies(PATH)
        assert first["servers"][0] == {"serverId": "time", "tier": "standard", "status": "running", "tools": ["now"]}
        assert first["servers"][1]["sandboxId"] == "sbx_one"
        assert first["servers"][1]["tools"] == list(map(str, range(MAX_TOOLS)))
        assert (first["epoch"], first["apiUrl"], "frontUrl" in first) == (12, "http://127.0.0.1:4200", False)
        assert second["frontUrl"] == "https://front.test:443"
        assert counts == [("worker", "ok"), ("worker", "ok")]


async def test_the_end(tmp_path: Path) -> None:
    async with control_session(tmp_path) as (fake, session, _):
        fake.misbehave(PATH, answer(204))
        await withdraw_worker(session, "wrk_1", 12)
        assert [(method, path) for method, path, _ in fake.asked] == [("DELETE", PATH)]


async def test_what_is_declared(tmp_path: Path) -> None:
    async with control_session(tmp_path) as (fake, session, _):
        declared = [{"serverId": "time", "anything": 1}]
        fake.misbehave(f"{PATH}/declared", answer(200, json.dumps({"servers": declared}).encode()))
        assert await declared_servers(session, "wrk_1") == declared


async def test_the_lowest_revision_that_gateways_report(tmp_path: Path) -> None:
    items = [{"planRevisions": {"sbx_1": 3, "sbx_2": 1}}, {"planRevisions": {"sbx_1": 2}}]
    async with control_session(tmp_path) as (fake, session, _):
        fake.misbehave(GATEWAYS, answer(200, json.dumps({"items": items}).encode()))
        assert await gateway_revisions(session) == {"sbx_1": 2, "sbx_2": 1}


@pytest.mark.parametrize("body", [b"{}", b'{"expiresInSeconds": 0}', b'{"expiresInSeconds": 30, "more": 1}'])
async def test_another_answer_is_none(tmp_path: Path, body: bytes) -> None:
    async with control_session(tmp_path) as (fake, session, _):
        fake.misbehave(PATH, answer(200, body))
        with pytest.raises(ControlError):
            await report(session)


@pytest.mark.parametrize("body", [b"{}", b'{"servers": [1]}', b'{"servers": [], "more": 1}'])
async def test_another_declaration_is_none(tmp_path: Path, body: bytes) -> None:
    async with control_session(tmp_path) as (fake, session, _):
        fake.misbehave(f"{PATH}/declared", answer(200, body))
        with pytest.raises(ControlError):
            await declared_servers(session, "wrk_1")
