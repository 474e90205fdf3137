import orjson
import pytest

from control_plane.app import Foundation
from control_plane.offered import enabled_offer, find_offer, read_config
from control_plane.refusals import Refused
from control_plane.targets import new_row
from tests.support.control_plane import NOW
from tests.support.definitions import FORGE, ForgeConfig, registry

GOOD = {"baseUrl": "https://forge.example"}


@pytest.mark.parametrize(
    ("config", "enabled", "code"),
    [(GOOD, True, None), (GOOD, False, "target_disabled"), ({}, True, "target_not_found")],
)
async def test_what_connections_are_made_to(
    base: Foundation, config: dict[str, str], enabled: bool, code: str | None
) -> None:
    row = new_row("forge-server", FORGE, NOW)
    row.config, row.enabled = orjson.dumps(config).decode(), enabled
    async with base.database.write() as tx:
        await tx.add(row)
    async with base.database.read() as tx:
        assert await find_offer(tx, registry(), "none") is None
        if code is None:
            assert (await enabled_offer(tx, registry(), "forge-server")).definition is FORGE
            return
        with pytest.raises(Refused) as caught:
            await enabled_offer(tx, registry(), "forge-server")
    assert caught.value.code.wire == code


def test_a_configuration_is_told_whole() -> None:
    assert read_config(ForgeConfig, GOOD).base_url == GOOD["baseUrl"]
    with pytest.raises(Refused) as caught:
        read_config(ForgeConfig, {"realm": 1, "x": 2})
    assert {issue.pointer for issue in caught.value.issues} == {"/config/baseUrl", "/config/realm", "/config/x"}
