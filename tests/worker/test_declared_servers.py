"""What the control plane declares against what it had installed: real servers, a declaration by hand."""

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from control_client.errors import UNREACHABLE, ControlError
from tests.support.integration_stage import IntegrationStage, integration_stage, order
from worker.declared_servers import DeclaredServers
from worker.integrations.integration import Status
from worker.integrations.sources import InstallRequest, manifest_of
from worker.reconciliation import CannotTell, Reconciliation


def declared(server_id: str = "tester", desired: str = "running", **changes: object) -> dict[str, Any]:
    source = order(name=server_id).source
    return {"serverId": server_id, "source": source, "tier": "standard", "desired": desired, **changes}


class Declaring:
    """Servers, what is declared of them, and rounds."""

    def __init__(self, stage: IntegrationStage) -> None:
        self.stage = stage
        self.documents: list[dict[str, Any]] = []
        self.is_away = False
        self.part = DeclaredServers(stage.integrations, self.ask)
        self.reconciliation = Reconciliation([self.part], every_seconds=1, wall=lambda: 0)

    async def ask(self) -> Sequence[Mapping[str, object]]:
        if self.is_away:
            raise ControlError(UNREACHABLE, temporary=True)
        return self.documents

    async def round(self) -> dict[str, int]:
        """Go a round; return what it came to in all so far."""
        await self.reconciliation.go_round(self.part)
        return dict(self.reconciliation.rounds[self.part.name].counts)

    def servers(self) -> dict[str, str]:
        return {each.id: each.status.value for each in self.stage.integrations.list()}

    def issues(self) -> list[str | None]:
        return list(self.reconciliation.rounds[self.part.name].drift.values())


@pytest.fixture
async def declaring(tmp_path: Path) -> AsyncIterator[Declaring]:
    async with integration_stage(tmp_path) as stage:
        yield Declaring(stage)


async def test_what_is_declared_is_installed_started_stopped_and_removed(declaring: Declaring) -> None:
    declaring.documents = [declared(), declared("other", "stopped")]
    assert await declaring.round() == {"found": 2, "repaired": 2}
    assert declaring.servers() == {"other": "stopped", "tester": "running"}
    pid = declaring.stage.integrations.find("tester").pid
    assert await declaring.round() == {"found": 2, "repaired": 2}
    assert declaring.stage.integrations.find("tester").pid == pid
    declaring.documents = [declared("tester", "stopped"), declared("other")]
    await declaring.round()
    assert declaring.servers() == {"other": "running", "tester": "stopped"}
    declaring.documents = []
    await declaring.round()
    assert (declaring.servers(), repr(declaring.part)) == ({}, "<DeclaredServers of <Integrations 0 installed>>")


async def test_one_that_is_declared_in_another_way_is_installed_anew(declaring: Declaring) -> None:
    declaring.documents = [declared()]
    await declaring.round()
    declaring.documents = [declared(tier="admin", environment={"MORE": "1"})]
    await declaring.round()
    integration = declaring.stage.integrations.find("tester")
    assert (integration.status, integration.stored.manifest.tier) == (Status.RUNNING, "admin")
    assert integration.stored.manifest.environment == {"MORE": "1"}


async def test_what_the_control_plane_had_installed_by_a_call_is_the_same(declaring: Declaring) -> None:
    document = declared()
    asked = {name: value for name, value in document.items() if name not in ("serverId", "desired")}
    request = InstallRequest.model_validate(
        {**asked, "id": "tester", "owner": "control-plane", "arguments": [], "environment": {}, "secrets": {}}
    )
    integrations = declaring.stage.integrations
    integration = await integrations.install(manifest_of(request), lambda *_: None, request.owner, request.digest)
    await integration.start()
    pid = integration.pid
    declaring.documents = [document]
    assert (await declaring.round(), integration.pid) == ({"found": 0}, pid)


async def test_what_others_had_installed_is_not_touched(declaring: Declaring) -> None:
    await declaring.stage.started()
    assert await declaring.round() == {"found": 0}
    declaring.documents = [declared("tester", "stopped")]
    assert await declaring.round() == {"found": 1, "failed": 1}
    assert declaring.servers() == {"tester": "running"}
    assert declaring.issues() == ["tester is installed already; remove it first"]


async def test_what_fails_is_told_and_tried_again(declaring: Declaring) -> None:
    faulty = order("crash-now", name="faulty").source
    declaring.documents = [
        declared("faulty", source=faulty),
        declared("strange", tier="x"),
        declared("none", source="x"),
    ]
    await declaring.round()
    assert declaring.servers() == {"faulty": "stopped"}
    told = sorted(map(str, declaring.issues()))
    assert told[0].startswith("faulty does not run: it exited with code 3")
    assert told[1] == "the control plane declares it in a way that is not understood here"
    assert told[2] == "there is no 'x' in the catalog"
    counts = await declaring.round()
    assert (counts["found"], counts["failed"]) == (6, 6)


async def test_a_control_plane_that_is_away_takes_nothing_away(declaring: Declaring) -> None:
    declaring.documents = [declared()]
    await declaring.round()
    declaring.is_away = True
    await declaring.round()
    assert declaring.servers() == {"tester": "running"}
    with pytest.raises(CannotTell):
        await declaring.part.declared()
