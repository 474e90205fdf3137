"""Interception authorities: two documents and an end."""

from pathlib import Path

import pytest

from control_client.authorities import fetch_authority
from control_client.errors import ControlError
from tests.support.control_sessions import control_session

GOOD = {"certificatePem": "CERTIFICATE\n", "privateKeyPem": "canary-key\n", "notAfter": 1_900_000_000}


async def test_an_authority(tmp_path: Path) -> None:
    async with control_session(tmp_path) as (fake, session, counts):
        fake.authorities["sbx_1"] = GOOD
        found = await fetch_authority(session, "sbx_1")
        assert found == (b"CERTIFICATE\n", b"canary-key\n", 1_900_000_000)
        assert "canary" not in repr(found)
        assert counts == [("authority", "ok")]


@pytest.mark.parametrize(
    "change", [{"privateKeyPem": None}, {"privateKeyPem": "canary\ud800"}, {"notAfter": "later"}, {"more": "canary"}]
)
async def test_half_an_authority_is_none(tmp_path: Path, change: dict[str, object]) -> None:
    async with control_session(tmp_path) as (fake, session, _):
        fake.authorities["sbx_1"] = GOOD | change
        with pytest.raises(ControlError) as caught:
            await fetch_authority(session, "sbx_1")
        assert "canary" not in str(caught.value)


async def test_a_sandbox_without_one(tmp_path: Path) -> None:
    async with control_session(tmp_path) as (_, session, _counts):
        with pytest.raises(ControlError, match="sandbox_not_found"):
            await fetch_authority(session, "sbx_1")
