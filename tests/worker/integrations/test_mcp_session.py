"""Sessions with servers at a URL; those with children are in test_integration.py. The URL is another worker's front."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.front_stage import ADMIN_KEY, STANDARD_KEY, ListeningFront, listening_front
from tests.support.integration_stage import IntegrationStage, integration_stage
from tests.support.until import until
from worker.integrations.errors import IntegrationError
from worker.integrations.integration import Integration, Status


@pytest.fixture
async def elsewhere(tmp_path: Path) -> AsyncIterator[tuple[IntegrationStage, ListeningFront]]:
    (tmp_path / "elsewhere").mkdir()
    async with integration_stage(tmp_path / "elsewhere") as stage, listening_front(stage, tmp_path) as front:
        await stage.started("pages", name="far")
        yield stage, front


async def installed(stage: IntegrationStage, front: ListeningFront) -> Integration:
    transport = {"type": "streamable-http", "url": front.path("far")}
    return await stage.install(transport=transport, secrets={"Authorization": {"env": "KEY", "prefix": "Bearer "}})


async def test_its_tools_are_known_and_its_key_is_not(
    tmp_path: Path, elsewhere: tuple[IntegrationStage, ListeningFront]
) -> None:
    async with integration_stage(tmp_path, {"KEY": ADMIN_KEY}) as stage:
        integration = await installed(stage, elsewhere[1])
        await integration.start()
        document = integration.to_document()
        assert (document["status"], document["pid"], document["tools_count"]) == ("running", None, 7)
        answer = await integration.ask("tools/call", {"name": "tool_0", "arguments": {"a": 1}}, None)
        assert answer["content"][0]["text"] == '{"a": 1}'
        assert ADMIN_KEY not in repr(integration.stored) + str(document) + str(integration.log.tail(100))


async def test_a_key_that_is_refused_is_told(
    tmp_path: Path, elsewhere: tuple[IntegrationStage, ListeningFront]
) -> None:
    async with integration_stage(tmp_path, {"KEY": STANDARD_KEY}) as stage:
        integration = await installed(stage, elsewhere[1])
        with pytest.raises(IntegrationError, match="tester does not run") as caught:
            await integration.start()
        assert STANDARD_KEY not in str(caught.value.to_document())


@pytest.mark.full
async def test_one_that_goes_away_is_found_by_a_ping(
    tmp_path: Path, elsewhere: tuple[IntegrationStage, ListeningFront]
) -> None:
    async with integration_stage(tmp_path, {"KEY": ADMIN_KEY}, TIMEOUTS_PING="1s", LIMITS_CRASHES="2") as stage:
        integration = await installed(stage, elsewhere[1])
        await integration.start()
        await elsewhere[0].integrations.remove("far")
        await until(lambda: integration.status is Status.CRASH_LOOP)
        assert integration.to_document()["last_error"] is not None


async def test_nobody_there(tmp_path: Path) -> None:
    async with integration_stage(tmp_path) as stage:
        integration = await stage.install(transport={"type": "streamable-http", "url": "http://127.0.0.1:1/mcp"})
        with pytest.raises(IntegrationError, match="tester does not run"):
            await integration.start()
