"""Sandboxes declared, started, stopped, destroyed and mended, over a provider that only says so."""

import asyncio
from pathlib import Path

import pytest

from sallyport.net.clock import read_wall
from tests.support.made_sandboxes import MadeSandboxes
from tests.support.sandbox_stage import definition
from worker.reconciliation import Reconciliation
from worker.sandboxes.errors import SandboxError, failed
from worker.sandboxes.provider import Running, TunnelTokens
from worker.sandboxes.sandboxes import Sandboxes
from worker.sandboxes.store import DeclaredSandboxes


class Stage:
    """Sandboxes over one folder, which can be started again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.provider = MadeSandboxes()
        self.minted: list[str] = []
        self.may_mint = True

    async def sandboxes(self, most: int = 3) -> Sandboxes:
        made = Sandboxes(
            DeclaredSandboxes(self._folder / "declared"), {"local": self.provider}, self._mint, most_sandboxes=most
        )
        await made.open()
        return made

    async def _mint(self, sandbox_id: str) -> TunnelTokens:
        if not self.may_mint:
            raise failed("no token")
        self.minted.append(sandbox_id)
        return TunnelTokens(token="t", renewal_token="r")


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


ONE = definition("/bin/agent")


async def mend(sandboxes: Sandboxes) -> None:
    await Reconciliation([sandboxes], every_seconds=60, wall=read_wall).go_round(sandboxes)


async def test_the_life_of_a_sandbox(stage: Stage) -> None:
    sandboxes = await stage.sandboxes()
    await sandboxes.create(ONE)
    assert await sandboxes.document("sbx_one") == {
        "sandboxId": "sbx_one",
        "provider": "local",
        "desired": "running",
        "status": "running",
        "pid": 7,
        "lastExit": None,
    }
    assert stage.minted == ["sbx_one"]
    await sandboxes.start("sbx_one")  # it runs already
    assert stage.minted == ["sbx_one"]
    await sandboxes.stop("sbx_one")
    await sandboxes.stop("sbx_one")
    (document,) = await sandboxes.documents()
    assert (document["desired"], document["status"]) == ("stopped", "stopped")
    await sandboxes.start("sbx_one")
    assert stage.minted == ["sbx_one", "sbx_one"]
    assert await sandboxes.log("sbx_one", 1) == ["b"]
    await sandboxes.destroy("sbx_one")
    assert await sandboxes.documents() == []
    assert stage.provider.there == {}


async def test_what_is_refused(stage: Stage) -> None:
    sandboxes = await stage.sandboxes(most=1)
    await sandboxes.create(ONE)
    with pytest.raises(SandboxError, match="is there already"):
        await sandboxes.create(ONE)
    with pytest.raises(SandboxError, match="1 sandboxes are there already"):
        await sandboxes.create(definition("/bin/true", sandbox_id="sbx_two"))
    for act in (sandboxes.start, sandboxes.stop, sandboxes.destroy, sandboxes.document):
        with pytest.raises(SandboxError, match="there is no sandbox sbx_two"):
            await act("sbx_two")
    other = definition("/bin/true", sandbox_id="sbx_two").model_copy(update={"provider": "docker"})
    with pytest.raises(SandboxError, match="no provider docker"):
        await (await Stage(stage._folder / "other").sandboxes()).create(other)


@pytest.mark.parametrize("fault", ["create", "start", "mint"])
async def test_nothing_is_left_of_one_that_cannot_be_started(stage: Stage, fault: str) -> None:
    sandboxes = await stage.sandboxes()
    stage.provider.fails, stage.may_mint = fault, fault != "mint"
    with pytest.raises(SandboxError):
        await sandboxes.create(ONE)
    assert await sandboxes.documents() == []
    assert stage.provider.there == {}
    stage.provider.fails, stage.may_mint = "", True
    await sandboxes.create(ONE)


async def test_what_runs_is_meant_to_run_after_a_restart(stage: Stage) -> None:
    sandboxes = await stage.sandboxes()
    await sandboxes.create(ONE)
    await sandboxes.create(definition("/bin/true", sandbox_id="sbx_two"))
    await sandboxes.stop("sbx_two")
    await sandboxes.close()
    # The worker was killed: what ran is there and does not run.
    stage.provider.there["sbx_one"] = Running(is_running=False)
    again = await stage.sandboxes()
    assert await again.declared() == {"sbx_one": "running", "sbx_two": "stopped"}
    assert await again.actual() == {"sbx_one": "stopped", "sbx_two": "stopped"}
    await mend(again)
    assert await again.actual() == await again.declared()


async def test_drift_is_mended(stage: Stage) -> None:
    sandboxes = await stage.sandboxes()
    await sandboxes.create(ONE)
    await sandboxes.create(definition("/bin/true", sandbox_id="sbx_two"))
    await sandboxes.stop("sbx_two")
    stage.provider.there = {"orphan": Running(is_running=True), "sbx_two": Running(is_running=True)}
    await mend(sandboxes)
    assert await sandboxes.actual() == {"sbx_one": "running", "sbx_two": "stopped"}
    del stage.provider.there["sbx_two"]
    await mend(sandboxes)
    assert await sandboxes.actual() == await sandboxes.declared()


async def test_what_cannot_be_mended_keeps_nobody_from_being_mended(stage: Stage) -> None:
    sandboxes = await stage.sandboxes()
    for name in ("sbx_one", "sbx_two"):
        await sandboxes.create(definition("/bin/true", sandbox_id=name))
    stage.provider.there = {"orphan": Running(is_running=True)}
    stage.provider.fails = "start"
    await mend(sandboxes)
    assert "orphan" not in stage.provider.there
    stage.provider.fails = "list"
    await mend(sandboxes)  # told in the log
    stage.provider.fails = ""
    await mend(sandboxes)
    assert await sandboxes.actual() == await sandboxes.declared()


async def test_a_command_that_ended_by_itself_is_not_started_again(stage: Stage) -> None:
    sandboxes = await stage.sandboxes()
    await sandboxes.create(ONE)
    stage.provider.there["sbx_one"] = Running(is_running=False, exit_code=3)
    await mend(sandboxes)
    document = await sandboxes.document("sbx_one")
    assert (document["desired"], document["status"], document["lastExit"]) == ("stopped", "stopped", 3)
    assert ("stop", "sbx_one") in stage.provider.calls  # its sandboxd, which ran on
    again = await stage.sandboxes()
    assert (await again.document("sbx_one"))["lastExit"] == 3


async def test_a_declaration_that_cannot_be_read_is_left_alone(stage: Stage) -> None:
    (stage._folder / "declared").mkdir()
    (stage._folder / "declared" / "sbx_one.json").write_text("{")
    stage.provider.there["sbx_one"] = Running(is_running=True)
    sandboxes = await stage.sandboxes()
    await mend(sandboxes)
    assert stage.provider.there["sbx_one"].is_running
    with pytest.raises(SandboxError, match="is there already"):
        await sandboxes.create(ONE)


async def test_one_change_of_a_sandbox_at_a_time(stage: Stage) -> None:
    sandboxes = await stage.sandboxes()
    await sandboxes.create(ONE)
    async with asyncio.TaskGroup() as group:
        for act in (sandboxes.stop, sandboxes.start) * 5:
            group.create_task(act("sbx_one"))
        group.create_task(sandboxes.destroy("sbx_one"))
        late = [group.create_task(_refused(sandboxes)) for _ in range(5)]
    assert [task.result() for task in late] == [True] * 5
    # Each waited for the one before: no two were at it at once.
    assert stage.provider.most_at_once == 1
    assert stage.provider.there == {}


async def _refused(sandboxes: Sandboxes) -> bool:
    try:
        await sandboxes.start("sbx_one")
    except SandboxError:
        return True
    return False
