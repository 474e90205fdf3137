"""What the operator offers, read by its definition."""

import pytest
from sqlalchemy import update

from control_plane.definitions.registry import Registry
from control_plane.foundation import Foundation
from control_plane.offered import enabled_offer, find_offer, open_target_secret, read_config
from control_plane.refusals import Refused
from control_plane.store.models import Target
from tests.support.authorization_server import CLIENT_ID
from tests.support.oauth_stage import VARIANT, Config, acme, offer_target

REGISTRY = Registry([acme()])


async def test_an_offer_has_its_configuration_and_the_names_of_its_secrets(base: Foundation) -> None:
    await offer_target(base.database, base.vault, "https://p.test")
    async with base.database.read() as tx:
        offer = await enabled_offer(tx, REGISTRY, VARIANT)
        assert offer.target.config.base_url == "https://p.test"
        assert offer.target.secrets == {"client_id", "client_secret", "app_id", "private_key"}
        secret = await open_target_secret(tx, base.vault, VARIANT, "client_id")
        assert secret is not None
        assert secret.reveal() == CLIENT_ID.encode()
        assert await open_target_secret(tx, base.vault, VARIANT, "other") is None


async def test_what_is_not_offered(base: Foundation) -> None:
    await offer_target(base.database, base.vault, "https://p.test", enabled=False)
    async with base.database.read() as tx:
        with pytest.raises(Refused, match="target_disabled"):
            await enabled_offer(tx, REGISTRY, VARIANT)
        with pytest.raises(Refused, match="target_not_found"):
            await enabled_offer(tx, REGISTRY, "other")
        assert await find_offer(tx, Registry([]), VARIANT) is None
    async with base.database.write() as tx:
        await tx.run(update(Target).values(config="{}"))
    async with base.database.read() as tx:
        assert await find_offer(tx, REGISTRY, VARIANT) is None


def test_every_issue_of_a_configuration_is_told() -> None:
    assert read_config(Config, {"workspace": "w"}).workspace == "w"
    with pytest.raises(Refused) as caught:
        read_config(Config, {"workspace": 7, "scopes": [1], "other": "x"})
    assert sorted(issue.pointer for issue in caught.value.issues) == [
        "/config/other",
        "/config/scopes/0",
        "/config/workspace",
    ]
