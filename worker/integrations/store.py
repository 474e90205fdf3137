"""What is installed and what is meant to run, in a folder of the worker's own; nobody else may read it.

`<state>/<id>/integration.json` is written last by an installation and removed first by a removal: a folder without it
is half of one or the other, and is taken away at the next start.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sallyport.net.whole_file import replace_file
from worker.integrations.manifest import Manifest
from worker.owned_folder import own_folder

_FILE: Final = "integration.json"
_PRIVATE: Final = 0o600


type Owner = Literal["operator", "control-plane", "plans"]


class Stored(BaseModel):
    """One integration as it is kept. The tools are those it had when it last ran."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    manifest: Manifest
    # Who had it installed, and may have it removed; `order` tells one install request from another.
    owner: Owner = "operator"
    order: str | None = None
    # The sandboxes whose plans name it, each with the newest revision that does.
    wanted_by: dict[str, int] = Field(default_factory=dict)
    desired: Literal["running", "stopped"] = "stopped"
    # The program of its package, where that has one.
    program: str | None = None
    tools: tuple[dict[str, object], ...] = ()
    protocol_version: str | None = None
    server_info: dict[str, object] | None = None


@dataclass(frozen=True, slots=True)
class IntegrationStore:
    """The folder. `mark` tells the processes of its servers from all others of this machine."""

    root: Path
    mark: str
    lock: int

    def folder(self, integration_id: str) -> Path:
        """Return the folder of one integration, there or not."""
        return self.root / integration_id

    def load(self) -> list[Stored]:
        """Return what is installed, and take away what is half installed. A file that cannot be read is left alone."""
        found = []
        # No id begins with a dot: those folders are ours.
        folders = (path for path in self.root.iterdir() if path.is_dir() and not path.name.startswith("."))
        for folder in sorted(folders):
            try:
                found.append(Stored.model_validate_json((folder / _FILE).read_bytes()))
            except FileNotFoundError:
                shutil.rmtree(folder, ignore_errors=True)
            except (OSError, ValidationError):
                continue
        return found

    def prepare(self, integration_id: str) -> Path:
        """Make an empty folder for an installation."""
        folder = self.folder(integration_id)
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "home").mkdir(mode=0o700, parents=True)
        return folder

    def save(self, stored: Stored) -> None:
        """Write or replace one integration's file, at once."""
        content = json.dumps(stored.model_dump(mode="json"), indent=1).encode()
        replace_file(self.folder(stored.manifest.id) / _FILE, content, mode=_PRIVATE)

    def remove(self, integration_id: str) -> None:
        """Forget an integration and take its folder away."""
        folder = self.folder(integration_id)
        (folder / _FILE).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Let another worker have the folder."""
        os.close(self.lock)


def open_store(root: Path) -> IntegrationStore:
    """Make or open the folder, for one worker at a time; raises StateTaken."""
    owned = own_folder(root)
    return IntegrationStore(owned.root, owned.mark, owned.lock)


def with_desired(stored: Stored, desired: Literal["running", "stopped"]) -> Stored:
    """Return the same integration, meant to run or not."""
    return stored.model_copy(update={"desired": desired})
