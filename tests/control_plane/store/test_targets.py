from control_plane.app import Foundation
from control_plane.store import targets
from tests.support.oauth_stage import VARIANT, offer_target


async def test_a_target_and_its_secrets_by_name(base: Foundation) -> None:
    await offer_target(base.database, base.vault, "https://provider.test")
    await offer_target(base.database, base.vault, "https://provider.test", key="other")
    async with base.database.write() as tx:
        found = await targets.target(tx, VARIANT, lock=True)
        assert found is not None
        assert found.family_id == "acme"
        names = [secret.name for secret in await targets.secrets(tx, VARIANT)]
        assert names == ["app_id", "client_id", "client_secret", "private_key"]
        assert await targets.target(tx, "none") is None
        assert await targets.secrets(tx, "none") == []
