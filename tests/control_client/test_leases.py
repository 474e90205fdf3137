"""Lease reports as they are sent, and their answers."""

import json
from pathlib import Path

import pytest

from control_client.errors import ControlError
from control_client.leases import HeldSandbox, LeaseAnswer, put_lease
from control_client.session import ControlSession
from tests.support.control_sessions import control_session
from tests.support.fake_control import answer

PATH = "/internal/gateways/gw_1/lease"
HELD = [HeldSandbox("sbx_1", 17, 3), HeldSandbox("sbx_2", None, None)]


async def report(session: ControlSession) -> LeaseAnswer:
    return await put_lease(session, "gw_1", epoch=12, admin_url="http://127.0.0.1:9900", sandboxes=HELD)


async def test_a_report(tmp_path: Path) -> None:
    async with control_session(tmp_path) as (fake, session, counts):
        fake.superseded = ["sbx_1"]
        assert await report(session) == LeaseAnswer(30, ("sbx_1",))
        assert fake.bodies(PATH) == [
            {
                "epoch": 12,
                "adminUrl": "http://127.0.0.1:9900",
                "sandboxes": [
                    {"sandboxId": "sbx_1", "tunnel": True, "tunnelEpoch": 17},
                    {"sandboxId": "sbx_2", "tunnel": False},
                ],
                "planRevisions": {"sbx_1": 3},
            }
        ]
        assert counts == [("lease", "ok")]


@pytest.mark.parametrize("change", [{"expiresInSeconds": 0}, {"superseded": [1]}, {"superseded": None}, {"more": 1}])
async def test_another_answer_is_none(tmp_path: Path, change: dict[str, object]) -> None:
    good: dict[str, object] = {"expiresInSeconds": 30, "superseded": []}
    async with control_session(tmp_path) as (fake, session, _):
        fake.misbehave(PATH, answer(200, json.dumps(good | change).encode()))
        with pytest.raises(ControlError):
            await report(session)
