"""Artifacts: installed once, brought up to date when they change, removed when they are no longer declared."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sallyport.setup import Artifact, Environment, ExecStep, LifecycleStep, SetupError, artifact_text, parse_artifact
from sandboxd.setup.environment import environment_of
from sandboxd.setup.files import FileRefused, write_file
from sandboxd.setup.parts import SetupParts
from sandboxd.setup.process_log import ProcessLog
from sandboxd.setup.run import run_program
from sandboxd.setup.steps import StepFailed


class Ledger:
    """What is installed, as it was declared then: how to remove it is known after its declaration is gone.

    Kept on disk, because an installation outlives this process. Always: what is named here has been installed whole,
    and stands in the order in which it was last declared.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._installed = _read(path)
        self._declared: Sequence[str] = ()

    def installed_keys(self) -> Sequence[str]:
        """The keys of what is installed."""
        return tuple(self._installed)

    def find(self, key: str) -> Artifact | None:
        """What is installed under a key."""
        text = self._installed.get(key)
        return None if text is None else parse_artifact(text)

    def declare(self, keys: Sequence[str]) -> None:
        """Keep what is noted from now on in the order of these keys, behind what is declared no more."""
        self._declared = tuple(keys)

    def note(self, artifact: Artifact) -> None:
        """It is installed as declared; OSError when that cannot be kept."""
        before = tuple(self._installed.items())
        known = self._installed | {artifact.artifact_key: artifact_text(artifact)}
        keys = [*(key for key in known if key not in self._declared), *(key for key in self._declared if key in known)]
        self._installed = {key: known[key] for key in keys}
        if tuple(self._installed.items()) != before:
            self._write()

    def forget(self, key: str) -> None:
        """It is not there any more; OSError when that cannot be kept."""
        self._installed.pop(key, None)
        self._write()

    def _write(self) -> None:
        write_file(str(self._path), json.dumps(self._installed).encode(), mode=0o600)


def _read(path: Path) -> dict[str, str]:
    """What the file holds that can still be read; nothing else is known to be installed."""
    try:
        held = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    known = {}
    for key, text in held.items() if isinstance(held, dict) else ():
        try:
            parse_artifact(text if isinstance(text, str) else "")
        except SetupError:
            continue
        known[key] = text
    return known


async def install(parts: SetupParts, ledger: Ledger, artifact: Artifact, environment: Environment) -> None:
    """Bring an artifact to what is declared; raises StepFailed. Does nothing for one that is as declared."""
    before = ledger.find(artifact.artifact_key)
    if before is None or replace(before, after=artifact.after) != artifact:  # its place in the order installs nothing
        steps = artifact.lifecycle.update if before is not None else None
        await _carry_out(parts, artifact, artifact.lifecycle.install if steps is None else steps, environment)
    ledger.note(artifact)


async def remove(parts: SetupParts, ledger: Ledger, key: str, environment: Environment) -> None:
    """Take away what is no longer declared, by the steps it was installed with; raises StepFailed."""
    artifact = ledger.find(key)
    if artifact is not None:
        await _carry_out(parts, artifact, artifact.lifecycle.remove or (), environment)
        ledger.forget(key)


async def _carry_out(
    parts: SetupParts, artifact: Artifact, steps: Sequence[LifecycleStep], environment: Environment
) -> None:
    log = ProcessLog(parts.logs / "artifacts" / f"{artifact.artifact_key}.log")
    try:
        for step in steps:
            if isinstance(step, ExecStep):
                env = environment_of(parts.environment, environment, artifact.env, step.env)
                seconds = step.timeout_ms / 1000
                await run_program(parts.tasks, step.args, env=env, cwd=step.cwd, timeout_seconds=seconds, log=log)
            else:
                put_file(step.path, step.content, step.mode, step.write_mode)
    finally:
        log.close()


def put_file(path: str, content: str, mode: int, write_mode: str) -> None:
    """Write a declared file; raises StepFailed."""
    try:
        write_file(path, content.encode("utf-8"), mode=mode, if_absent=write_mode == "if-absent")
    except FileRefused as error:
        raise StepFailed(str(error)) from None
    except OSError as error:
        raise StepFailed(f"{path} cannot be written: {error.strerror}") from None
