"""Which sandboxes there shall be, a file for each: `<state>/declared/<id>.json`, replaced whole."""

import json
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from sallyport.net.whole_file import replace_file
from worker.sandboxes.provider import Definition

_PRIVATE: Final = 0o600

type Desired = Literal["running", "stopped"]


class Declared(BaseModel):
    """A sandbox as it was declared, whether it is meant to run, and how its command ended last."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    definition: Definition
    desired: Desired
    last_exit: int | None = None

    def meant_to(self, desired: Desired, last_exit: int | None = None) -> "Declared":
        """Return the same sandbox, meant to run or not."""
        return self.model_copy(update={"desired": desired, "last_exit": last_exit})


class DeclaredSandboxes:
    """The files. Whoever uses it has the folder above them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self) -> tuple[dict[str, Declared], list[str]]:
        """Return all by id, and the names of files that cannot be read; those are left as they are. OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found, unread = {}, []
        for path in sorted(self._folder.glob("*.json")):
            try:
                declared = Declared.model_validate_json(path.read_bytes())
            except (OSError, ValidationError):
                unread.append(path.stem)
            else:
                found[declared.definition.sandbox_id] = declared
        return found, unread

    def save(self, declared: Declared) -> None:
        """Write or replace one; OSError."""
        content = json.dumps(declared.model_dump(mode="json", by_alias=True), indent=1).encode()
        replace_file(self._path(declared.definition.sandbox_id), content, mode=_PRIVATE)

    def remove(self, sandbox_id: str) -> None:
        """Forget one; OSError."""
        self._path(sandbox_id).unlink(missing_ok=True)

    def _path(self, sandbox_id: str) -> Path:
        return self._folder / f"{sandbox_id}.json"
