"""Put a package into an environment of its own: an npm prefix, or a virtual environment."""

import asyncio
import json
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sallyport.net.child import Child, ChildError, end_group, start_child
from sallyport.net.tasks import TaskSet
from sallyport.trust_env import NAMES
from worker.integrations.errors import provider_error
from worker.integrations.launch import Surroundings, proxy_variables
from worker.integrations.manifest import Manifest, NpmPackage, PypiPackage
from worker.integrations.server_log import ServerLog

# An installer that is told to end writes nothing that is needed.
_GRACE_SECONDS: Final = 2.0
# What an error quotes of an installer's words.
_TOLD_LINES: Final = 20
# An installer's settings are the operator's: which registry, which cache.
_INSTALLERS_OWN: Final = re.compile(r"(?i)^(pip|npm_config|uv)_|^(PATH|HOME|LANG|LC_ALL|TMPDIR|XDG_CONFIG_HOME)$")
# Which programs a distribution brings, asked of the environment that has it.
_SCRIPTS: Final = (
    "import importlib.metadata as m, json, sys\n"
    "points = m.distribution(sys.argv[1]).entry_points\n"
    "print(json.dumps([p.name for p in points if p.group == 'console_scripts']))\n"
)

type Report = Callable[[str, str], None]
"""Told of a stage (`environment`, `package`, `program`) and a line about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installers:
    """The programs that install, and how long one may take."""

    npm: str
    python: str
    timeout_seconds: float
    most_lines: int
    most_line_bytes: int


class Installation:
    """One installation into a folder."""

    def __init__(
        self, tasks: TaskSet, installers: Installers, around: Surroundings, folder: Path, report: Report
    ) -> None:
        self._tasks = tasks
        self._installers = installers
        self._folder = folder
        self._around = around
        self._report = report

    async def run(self, manifest: Manifest) -> str | None:
        """Install, and return the path of the package's own program, if it has one; raises IntegrationError."""
        match manifest.package:
            case NpmPackage() as package:
                return await self._npm(package)
            case PypiPackage() as package:
                return await self._pypi(package)
            case _:
                return None

    async def _npm(self, package: NpmPackage) -> str | None:
        wanted = package.name if package.version is None else f"{package.name}@{package.version}"
        self._report("package", f"npm install {wanted}")
        env = self._folder / "env"
        env.mkdir()
        # No scripts: an installation runs nobody's code; a server's own runs when it is started.
        flags = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier")
        await self._command("package", [self._installers.npm, "install", "--prefix", str(env), *flags, "--", wanted])
        self._report("program", "looking for its program")
        described = json.loads((env / "node_modules" / package.name / "package.json").read_bytes())
        name = _chosen(_bins(package.name, described.get("bin")), package.name.rpartition("/")[2])
        return None if name is None else str(env / "node_modules" / ".bin" / name)

    async def _pypi(self, package: PypiPackage) -> str | None:
        env = self._folder / "env"
        self._report("environment", "making a virtual environment")
        await self._command("environment", [self._installers.python, "-m", "venv", str(env)])
        wanted = package.name if package.version is None else f"{package.name}=={package.version}"
        self._report("package", f"pip install {wanted}")
        python = str(env / "bin" / "python")
        flags = ("--no-input", "--disable-pip-version-check", "--progress-bar=off")
        await self._command("package", [python, "-m", "pip", "install", *flags, "--", wanted])
        self._report("program", "looking for its program")
        answer = await self._command("program", [python, "-I", "-c", _SCRIPTS, package.name])
        name = _chosen([str(each) for each in json.loads(answer[-1])], package.name)
        return None if name is None else str(env / "bin" / name)

    async def _command(self, stage: str, args: Sequence[str]) -> list[str]:
        """Run an installer to its end and return its last lines; raises IntegrationError."""
        installers = self._installers
        log = ServerLog(
            most_lines=installers.most_lines,
            most_line_bytes=installers.most_line_bytes,
            on_line=lambda line: self._report(stage, line),
        )
        log.hide(tuple(_passwords(self._environment())))
        try:
            child = await start_child(self._tasks, lambda: Child(log.write), args, env=self._environment(), cwd=None)
        except ChildError as error:
            raise provider_error(f"cannot install: {error}") from None
        try:
            async with asyncio.timeout(installers.timeout_seconds):
                code = await asyncio.shield(child.exited)
        except TimeoutError:
            raise provider_error(
                f"the installation took more than {installers.timeout_seconds:g} s",
                {"stage": stage, "output": log.tail(_TOLD_LINES)},
            ) from None
        finally:
            if child.exited.done():
                await child.finish()
            else:
                await end_group(child, first=signal.SIGTERM, timeout_seconds=_GRACE_SECONDS, grace_seconds=0)
            log.end()
        if code != 0:
            message = f"the installation failed: {Path(args[0]).name} exited with code {code}"
            raise provider_error(message, {"stage": stage, "exitCode": code, "output": log.tail(_TOLD_LINES)})
        return log.tail(_TOLD_LINES)

    def _environment(self) -> dict[str, str]:
        environ = self._around.environ
        own = {name: value for name, value in environ.items() if _INSTALLERS_OWN.search(name) or name in NAMES}
        own.setdefault("PATH", "/usr/bin:/bin")
        if self._around.programs_dir is not None:
            own["PATH"] = f"{self._around.programs_dir}:{own['PATH']}"
        return own | proxy_variables(self._around)


def default_python() -> str:
    """Return the interpreter whose environments servers are installed into, where none is set."""
    return sys.executable


def _bins(package: str, declared: object) -> list[str]:
    """Return the programs that a package.json declares (one as a string has the package's name)."""
    if isinstance(declared, str):
        return [package.rpartition("/")[2]]
    return [str(name) for name in declared] if isinstance(declared, Mapping) else []


def _chosen(names: Sequence[str], wanted: str) -> str | None:
    if wanted in names or not names:
        return wanted if names else None
    return names[0] if len(names) == 1 else None


def _passwords(environment: Mapping[str, str]) -> list[str]:
    """Return what a URL of the environment has as its password: of a registry, of the gateway."""
    found = (re.search(r"://[^/@\s]*:([^/@\s]+)@", value) for value in environment.values())
    return [match[1] for match in found if match is not None]
