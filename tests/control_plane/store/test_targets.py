from control_plane.foundation import Foundation
from control_plane.store import targets as rows
from control_plane.store.models import Connection
from control_plane.targets import new_row
from tests.support.control_plane import NOW
from tests.support.definitions import FORGE
from tests.support.oauth_stage import VARIANT, offer_target


async def test_targets_and_their_secrets(base: Foundation) -> None:
    async with base.database.write() as tx:
        for key in ("b", "a", "c"):
            row = new_row(key, FORGE, NOW)
            row.enabled = key != "b"
            await tx.add(row)
        await rows.put_secret(tx, "a", "two", b"1", NOW)
        await rows.put_secret(tx, "a", "one", b"1", NOW)
        await rows.put_secret(tx, "b", "one", b"1", NOW)
        await rows.put_secret(tx, "a", "one", b"2", NOW + 1)
        await rows.clear_secret(tx, "a", "two")
        await rows.clear_secret(tx, "a", "none")
    async with base.database.read() as tx:
        listed = [row.key for row in await rows.list_targets(tx, "", 10, enabled_only=False)]
        assert listed == ["a", "b", "c"]
        assert [row.key for row in await rows.list_targets(tx, "a", 10, enabled_only=True)] == ["c"]
        [secret] = await rows.secrets(tx, "a")
        assert (secret.name, secret.value, secret.updated_at) == ("one", b"2", int(NOW) + 1)
        assert [each.target_key for each in await rows.secrets_of(tx, ["a", "b", "x"])] == ["a", "b"]
        target = await rows.target(tx, "a")
        assert target is not None
        assert target.variant_id == "forge-server"


async def test_connections_of_a_target(base: Foundation) -> None:
    async with base.database.write() as tx:
        for number in range(3):
            row = Connection(
                id=f"con_{number}",
                organization_id="o",
                target_key="a",
                display_name=None,
                status="active",
                created_at=1,
                updated_at=1,
            )
            await tx.add(row)
    async with base.database.read() as tx:
        assert await rows.connections_of(tx, "a", 2) == ["con_0", "con_1"]
        assert await rows.connections_of(tx, "b", 2) == []


async def test_a_target_and_its_secrets_by_name(base: Foundation) -> None:
    await offer_target(base.database, base.vault, "https://provider.test")
    await offer_target(base.database, base.vault, "https://provider.test", key="other")
    async with base.database.write() as tx:
        found = await rows.target(tx, VARIANT, lock=True)
        assert found is not None
        assert found.family_id == "acme"
        names = [secret.name for secret in await rows.secrets(tx, VARIANT)]
        assert names == ["app_id", "client_id", "client_secret", "private_key"]
        assert await rows.target(tx, "none") is None
        assert await rows.secrets(tx, "none") == []
