import hashlib
import re

import pytest

from control_plane.feed import keys
from control_plane.feed.tiers import TIERS, Tier
from control_plane.foundation import Foundation
from control_plane.refusals import Refused
from tests.support.control_plane import NOW, ORGANIZATION
from tests.support.feed_stage import INSTANCE, FeedStage


async def test_a_key_is_shown_once_and_found_by_its_hash(base: Foundation) -> None:
    stage = FeedStage(base)
    await stage.prepare()
    made = await stage.key(Tier.ADMIN)
    key = str(made.pop("key"))
    assert re.fullmatch("sp_sk_[0-9a-f]{64}", key)
    key_id = str(made["clientKeyId"])
    assert await keys.get(base.database, key_id) == made
    assert (made["instanceId"], made["tier"], made["createdBy"]) == (INSTANCE, "admin", "test")
    holder = keys.KeyHolder(key_id, ORGANIZATION, INSTANCE, Tier.ADMIN)
    assert await keys.find(base.database, key) == holder
    assert await keys.find_by_hash(base.database, hashlib.sha256(key.encode()).hexdigest()) == holder
    for other in ("", "x", key.upper(), key + "0", key[:-1], "sp_sk_" + "0" * 64, "sp_sk_\udcff"):
        assert await keys.find(base.database, other) is None


async def test_a_revoked_key_opens_nothing_and_is_told(base: Foundation) -> None:
    stage = FeedStage(base)
    await stage.prepare()
    made = await stage.key()
    key_id = str(made["clientKeyId"])
    await keys.revoke(base.database, key_id, TIERS, NOW + 5)
    await keys.revoke(base.database, key_id, TIERS, NOW + 9)
    assert await keys.find(base.database, str(made["key"])) is None
    assert (await keys.get(base.database, key_id))["revokedAt"] == int(NOW) + 5


async def test_whoever_sees_one_tier_finds_no_key_of_another(base: Foundation) -> None:
    stage = FeedStage(base)
    await stage.prepare()
    admin, standard = [str((await stage.key(tier))["clientKeyId"]) for tier in (Tier.ADMIN, Tier.STANDARD)]
    mine = (Tier.STANDARD,)
    assert [each["clientKeyId"] for each in await keys.page(base.database, INSTANCE, mine, "", 10)] == [standard]
    found = [each["clientKeyId"] for each in await keys.page(base.database, INSTANCE, TIERS, "", 10)]
    assert found == sorted((admin, standard))
    with pytest.raises(Refused, match="client_key_not_found"):
        await keys.get(base.database, admin, mine)
    with pytest.raises(Refused, match="client_key_not_found"):
        await keys.revoke(base.database, admin, mine, NOW)
    with pytest.raises(Refused, match="client_key_not_found"):
        await keys.get(base.database, "ckey_none")


async def test_keys_are_of_an_instance_and_few(base: Foundation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "MAX_KEYS", 2)
    stage = FeedStage(base)
    with pytest.raises(Refused, match="instance_not_found"):
        await stage.key()
    with pytest.raises(Refused, match="instance_not_found"):
        await keys.page(base.database, INSTANCE, TIERS, "", 10)
    await stage.prepare()
    first = await stage.key()
    await stage.key()
    with pytest.raises(Refused, match="limit_reached"):
        await stage.key()
    await keys.revoke(base.database, str(first["clientKeyId"]), TIERS, NOW)
    await stage.key()
