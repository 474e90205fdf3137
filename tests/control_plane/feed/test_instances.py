import pytest

from control_plane.feed import instances, keys
from control_plane.feed.tiers import Tier
from control_plane.foundation import Foundation
from control_plane.refusals import Refused
from tests.support.control_plane import NOW, ORGANIZATION
from tests.support.feed_stage import INSTANCE, FeedStage


async def test_an_instance_from_its_making_to_its_end(base: Foundation) -> None:
    made = await instances.create(base.database, ORGANIZATION, instance_id=None, display_name="Chat", now=NOW)
    instance_id = str(made["instanceId"])
    assert instance_id.startswith("inst_")
    assert made == {
        "instanceId": instance_id,
        "organizationId": ORGANIZATION,
        "displayName": "Chat",
        "createdAt": int(NOW),
    }
    assert await instances.get(base.database, instance_id) == made
    await instances.remove(base.database, instance_id)
    for ask in (instances.get, instances.remove):
        with pytest.raises(Refused, match="instance_not_found"):
            await ask(base.database, instance_id)


async def test_an_id_is_given_once(base: Foundation) -> None:
    await FeedStage(base).prepare()
    with pytest.raises(Refused, match="already_exists"):
        await instances.create(base.database, "org_two", instance_id=INSTANCE, display_name=None, now=NOW)


async def test_pages_are_narrowed_to_an_organization(base: Foundation) -> None:
    stage = FeedStage(base)
    for instance_id, organization_id in (("a", ORGANIZATION), ("b", "org_two"), ("c", ORGANIZATION)):
        await stage.prepare(instance_id, organization_id)

    async def page(organization_id: str | None, after: str, limit: int) -> list[object]:
        return [each["instanceId"] for each in await instances.page(base.database, organization_id, after, limit)]

    assert await page(None, "", 10) == ["a", "b", "c"]
    assert await page(ORGANIZATION, "", 10) == ["a", "c"]
    assert await page(None, "a", 1) == ["b"]


async def test_one_that_a_worker_runs_something_for_stays(base: Foundation) -> None:
    stage = FeedStage(base)
    await stage.prepare()
    await stage.own("search")
    with pytest.raises(Refused, match="instance_in_use"):
        await instances.remove(base.database, INSTANCE)


async def test_what_was_of_it_goes_with_it(base: Foundation) -> None:
    stage = FeedStage(base, built_in_url="http://127.0.0.1:7500/mcp")
    await stage.prepare()
    key = await stage.key(Tier.ADMIN)
    assert (await stage.keeper.served(INSTANCE)).revision == 1
    await instances.remove(base.database, INSTANCE)
    assert await keys.find(base.database, str(key["key"])) is None
    assert await stage.keeper.served(INSTANCE) == ((), 0, False)
    assert await stage.keeper.look() == 0
