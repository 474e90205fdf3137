"""Local sandboxes over their life: folders, users, processes. What holds them in: tests/flow/test_ways_out.py."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sallyport.deputy import SHELL_FILE_VARIABLE
from sallyport.net.proc import stat_of
from sallyport.net.sandbox_network import NetworkError
from tests.support.sandbox_network import needs_isolation
from tests.support.sandbox_stage import (
    NO_TOKENS,
    definition,
    ended,
    heard,
    local_sandboxes,
    open_folder,
    output_of,
)
from worker.sandboxes import local
from worker.sandboxes.errors import SandboxError
from worker.sandboxes.local import LocalSandboxes, why_not
from worker.sandboxes.provider import Running

pytestmark = pytest.mark.uvloop

NOWHERE = "ws://127.0.0.1:9"


@pytest.fixture
async def provider() -> AsyncIterator[LocalSandboxes]:
    needs_isolation()
    with open_folder() as folder:
        async with local_sandboxes(folder, NOWHERE) as provider:
            yield provider


async def test_the_life_of_one(provider: LocalSandboxes) -> None:
    made = definition(
        "/bin/sh", "-c", "echo $GREETING > greeting; echo said; exec sleep 1000", environment={"GREETING": "hi"}
    )
    assert await provider.state("sbx_one") is None
    await provider.create(made)
    assert await provider.state("sbx_one") == Running(is_running=False)
    await provider.start(made, NO_TOKENS)
    state = await provider.state("sbx_one")
    assert state is not None
    assert state.is_running
    assert state.pid is not None
    assert await provider.list() == ["sbx_one"]
    await heard(provider, "said")
    await provider.stop("sbx_one")
    await provider.stop("sbx_one")
    assert stat_of(state.pid) is None
    assert await provider.state("sbx_one") == Running(is_running=False)
    # Its files stay until it is destroyed.
    again = definition("/bin/cat", "greeting")
    await provider.start(again, NO_TOKENS)
    assert (await ended(provider)).exit_code == 0
    assert "hi" in await provider.log("sbx_one", 100)
    await provider.destroy("sbx_one")
    await provider.destroy("sbx_one")
    assert await provider.state("sbx_one") is None
    assert await provider.list() == []


async def test_each_has_a_user_of_its_own_and_sees_no_other(provider: LocalSandboxes) -> None:
    for number in range(2):
        await provider.create(definition("/bin/true", sandbox_id=f"sbx_{number}"))
    commands = {
        f"sbx_{number}": definition("/bin/sh", "-c", "id -u; ls -A /tmp /home", sandbox_id=f"sbx_{number}")
        for number in range(2)
    }
    for made in commands.values():
        await provider.start(made, NO_TOKENS)
    said = []
    for sandbox_id in commands:
        await ended(provider, sandbox_id)
        said.append([line for line in await provider.log(sandbox_id, 100) if not line.startswith("[")])
    assert [lines[0] for lines in said] == ["200000", "200001"]
    assert said[0][1:] == said[1][1:] == ["/home:", "sandbox", "", "/tmp:"]


async def test_the_variables_name_trust_and_no_proxy(provider: LocalSandboxes) -> None:
    code, lines = await output_of(
        provider, "/bin/sh", "-c", "env; test -r $SSL_CERT_FILE && test -r $NODE_EXTRA_CA_CERTS"
    )
    names = {line.partition("=")[0].upper() for line in lines}
    assert code == 0
    assert {"SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "HOME", "PATH"} <= names
    ours = {name for name in names if "PROXY" in name or "TOKEN" in name or name.startswith("SALLYPORT")}
    assert ours == {SHELL_FILE_VARIABLE}


async def test_it_has_no_image(provider: LocalSandboxes) -> None:
    with pytest.raises(SandboxError, match="has no image"):
        await provider.create(definition("/bin/true").model_copy(update={"image": "i"}))


async def test_a_command_that_is_not_there(provider: LocalSandboxes) -> None:
    code, lines = await output_of(provider, "/bin/absent")
    assert (code, lines) == (125, ["the sandbox cannot begin: No such file or directory: /bin/absent"])


async def test_two_do_not_get_one_user_though_both_are_made_at_once(provider: LocalSandboxes) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(provider.create(definition("/bin/true", sandbox_id=f"s{number}")))
    users = {(provider._folder(f"s{number}") / "uid").read_text() for number in range(8)}
    assert len(users) == 8


async def test_where_no_sandbox_can_be_held_in_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise NetworkError("the kernel refuses a network: Operation not permitted")

    monkeypatch.setattr(local, "make_network", refuse)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    async with local_sandboxes(tmp_path, NOWHERE) as provider:
        with pytest.raises(SandboxError, match=r"the kernel refuses a network: .*`isolation: none`"):
            await provider.create(definition("/bin/true"))
        assert await provider.list() == []


def test_only_root_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "root" in str(why_not())
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "Linux" in str(why_not())


async def test_without_isolation_the_variables_name_a_proxy() -> None:
    with open_folder() as folder:
        async with local_sandboxes(folder, NOWHERE, is_isolated=False) as provider:
            code, lines = await output_of(provider, "/bin/sh", "-c", "id -u; env; test -r $SSL_CERT_FILE")
            assert code == 0
            assert lines[0] == str(os.getuid())
            assert any(line.startswith("HTTPS_PROXY=http://127.0.0.1:") for line in lines)


async def test_a_folder_that_is_gone_is_told(provider: LocalSandboxes) -> None:
    made = definition("/bin/true")
    await provider.create(made)
    (provider._folder("sbx_one") / "uid").unlink()
    with pytest.raises(SandboxError, match="uid: No such file"):
        await provider.start(made, NO_TOKENS)
    assert await provider.state("sbx_one") == Running(is_running=False)
    await provider.destroy("sbx_one")
    provider._settings.root.rmdir()
    with pytest.raises(SandboxError, match="No such file"):
        await provider.list()


async def test_a_sandboxd_that_does_not_start_leaves_nothing(tmp_path: Path) -> None:
    with open_folder() as folder:
        async with local_sandboxes(folder, "nonsense", is_isolated=False) as provider:
            await provider.create(definition("/bin/true"))
            with pytest.raises(SandboxError, match="sandboxd ended"):
                await provider.start(definition("/bin/true"), NO_TOKENS)
            assert await provider.state("sbx_one") == Running(is_running=False)
