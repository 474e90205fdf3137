"""Installations by a stand-in for npm; by real registries in tests/flow/test_integration_servers.py."""

import asyncio
import sys
from pathlib import Path

import pytest

from sallyport.net.tasks import TaskSet
from tests.support.until import until
from worker.integrations.errors import Category, IntegrationError
from worker.integrations.installation import Installation, Installers
from worker.integrations.launch import Surroundings
from worker.integrations.manifest import read_manifest

NPM = """#!/bin/sh
# Called as: npm install --prefix ENV ... -- NAME
echo "args: $*"
echo "registry: $npm_config_registry"
echo "secret: ${SALLYPORT_TOKEN:-none}"
%s
mkdir -p "$3/node_modules/@a/b"
printf '%%s' '%s' > "$3/node_modules/@a/b/package.json"
"""


class Site:
    """A folder to install into, with an npm that does as it is told."""

    def __init__(
        self, folder: Path, script: str = "", package: str = '{"bin": {"b": "x.js"}}', seconds: float = 10
    ) -> None:
        self.npm = folder / "npm"
        self.npm.write_text(NPM % (script, package))
        self.npm.chmod(0o755)
        self.folder = folder / "x"
        self.folder.mkdir()
        self.seconds = seconds
        self.told: list[tuple[str, str]] = []

    async def install(self, npm: str | None = None, **package: str) -> str | None:
        environ = {
            "PATH": "/usr/bin:/bin",
            "npm_config_registry": "https://user:hunter2@npm.example.com/",
            "SALLYPORT_TOKEN": "x",
        }
        around = Surroundings(environ=environ, credentials_dir=None, outbound=None)
        tasks = TaskSet(lambda name, error: None)
        installers = Installers(
            npm=npm or str(self.npm),
            python=sys.executable,
            timeout_seconds=self.seconds,
            most_lines=50,
            most_line_bytes=500,
        )
        installation = Installation(tasks, installers, around, self.folder, lambda *told: self.told.append(told))
        document = {"id": "x", "transport": {"type": "stdio"}, "package": {"registry": "npm", "name": "@a/b"} | package}
        return await installation.run(read_manifest(document))


async def refused(site: Site, npm: str | None = None) -> IntegrationError:
    with pytest.raises(IntegrationError) as caught:
        await site.install(npm)
    assert caught.value.category is Category.PROVIDER_ERROR
    return caught.value


async def test_a_package_and_its_program(tmp_path: Path) -> None:
    site = Site(tmp_path)
    assert await site.install(version="1.2.3") == str(site.folder / "env/node_modules/.bin/b")
    assert [stage for stage, _ in site.told][:1] == ["package"]
    lines = [line for _, line in site.told]
    assert lines[0] == "npm install @a/b@1.2.3"
    flags = "--ignore-scripts --no-audit --no-fund --no-update-notifier"
    words = f"args: install --prefix {site.folder}/env {flags} -- @a/b@1.2.3"
    assert lines[1:] == [
        words,
        "registry: https://user:<Secret>@npm.example.com/",
        "secret: none",
        "looking for its program",
    ]


@pytest.mark.parametrize(
    ("package", "program"),
    [
        ('{"bin": "x.js"}', "b"),
        ('{"bin": {"other": "x.js"}}', "other"),
        ('{"bin": {"c": "x.js", "b": "y.js"}}', "b"),
        ('{"bin": {"c": "x.js", "d": "y.js"}}', None),
        ("{}", None),
    ],
)
async def test_which_program_is_its_own(tmp_path: Path, package: str, program: str | None) -> None:
    site = Site(tmp_path, package=package)
    found = await site.install()
    assert found == (None if program is None else str(site.folder / "env/node_modules/.bin" / program))


async def test_one_that_fails_is_told_without_the_registrys_password(tmp_path: Path) -> None:
    error = await refused(Site(tmp_path, "echo E404 not found >&2; exit 9"))
    assert "exited with code 9" in str(error)
    details = error.details
    assert details is not None
    assert details["exitCode"] == 9
    assert details["output"] == [
        details["output"][0],  # type: ignore[index]  # the arguments, which have a folder of this test
        "registry: https://user:<Secret>@npm.example.com/",
        "secret: none",
        "E404 not found",
    ]


async def test_one_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    error = await refused(Site(tmp_path, "sleep 60", seconds=0.2))
    assert "took more than 0.2 s" in str(error)


async def test_one_that_is_cancelled_leaves_nothing_running(tmp_path: Path) -> None:
    site = Site(tmp_path, "echo begun; sleep 60; exit 1")
    installing = asyncio.get_running_loop().create_task(site.install())
    await until(lambda: any(line == "begun" for _, line in site.told))
    installing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await installing


async def test_no_npm(tmp_path: Path) -> None:
    assert "there is no program /no/npm" in str(await refused(Site(tmp_path), "/no/npm"))
