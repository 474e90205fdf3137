"""Workspace sources: repositories that are cloned once and then belong to whoever works in them."""

import errno
import os
import shutil
from pathlib import Path
from typing import Final

from sallyport.setup import Environment, WorkspaceSource
from sandboxd.setup.environment import environment_of
from sandboxd.setup.files import FileRefused, open_directory
from sandboxd.setup.parts import SetupParts
from sandboxd.setup.process_log import ProcessLog
from sandboxd.setup.run import run_program
from sandboxd.setup.steps import StepFailed

# A large repository over a slow line; a clone that hangs must not hold a revision for ever.
CLONE_SECONDS: Final = 900.0
_GIT_ENVIRONMENT: Final = {
    # Nobody is there to type a password, and no helper may run: whoever holds the credential is not in the sandbox.
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    # Whatever a redirect or a submodule says, git runs no other transport's program.
    "GIT_ALLOW_PROTOCOL": "http:https",
}


async def clone(parts: SetupParts, source: WorkspaceSource, environment: Environment) -> None:
    """Clone a source unless its place is a repository already, whose content is then left alone; raises StepFailed."""
    if not _is_to_be_cloned(source.path):
        return
    place = Path(source.path)
    beside = str(place.with_name(f".{place.name[:200]}.sallyport-clone"))
    log = ProcessLog(parts.logs / "workspaces" / f"{source.path.strip('/').replace('/', '-')[-200:]}.log")
    try:
        with open_directory(str(place.parent)):
            _clear(beside)
        await run_program(
            parts.tasks,
            ("git", "clone", "--quiet", "--", source.origin_url, beside),
            env=environment_of(parts.environment, environment, _GIT_ENVIRONMENT),
            cwd=None,
            timeout_seconds=CLONE_SECONDS,
            log=log,
        )
        # Half a clone is never seen: an empty directory in its place is replaced, anything else refuses.
        os.rename(beside, source.path)
    except FileRefused as error:
        raise StepFailed(str(error)) from None
    except OSError as error:
        raise StepFailed(f"{source.path} cannot be made: {error.strerror}") from None
    finally:
        _clear(beside)
        log.close()


def _is_to_be_cloned(path: str) -> bool:
    try:
        if os.path.islink(path):
            raise StepFailed(f"{path} is a symbolic link")
        found = os.listdir(path)
    except FileNotFoundError:
        return True
    except OSError as error:
        what = "is not a directory" if error.errno == errno.ENOTDIR else f"cannot be read: {error.strerror}"
        raise StepFailed(f"{path} {what}") from None
    if found and ".git" not in found:
        raise StepFailed(f"{path} holds files and is no repository; nothing was changed")
    return not found


def _clear(path: str) -> None:
    shutil.rmtree(path, ignore_errors=True)
