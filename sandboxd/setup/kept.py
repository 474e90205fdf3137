"""The documents that outlive this process: the last one applied whole, and a newer one that is not yet."""

from dataclasses import dataclass
from pathlib import Path

from sallyport.setup import SetupDocument, SetupError, parse_setup, setup_digest
from sandboxd.setup.files import write_file

# What a document may name is the sandbox's own business, not every user's.
_MODE = 0o600


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptDocument:
    """A document and the digest it was announced by."""

    document: SetupDocument
    digest: str


class KeptDocuments:
    """Two files of the state directory. Each is replaced at once, so a reader finds the one before or the new one."""

    def __init__(self, directory: Path) -> None:
        self._applied = directory / "applied.json"
        self._pending = directory / "pending.json"

    def keep_pending(self, body: bytes) -> None:
        """A document is about to be applied; OSError."""
        write_file(str(self._pending), body, mode=_MODE)

    def settle(self) -> None:
        """The pending document has been applied whole; OSError."""
        self._pending.replace(self._applied)

    def applied(self) -> KeptDocument | None:
        """The last document that was applied whole."""
        return _read(self._applied)

    def pending(self) -> KeptDocument | None:
        """The newer document that was not applied whole yet."""
        return _read(self._pending)


def _read(path: Path) -> KeptDocument | None:
    """What cannot be read is as if it were not there: the gateway has it, and sends it again."""
    try:
        body = path.read_bytes()
        return KeptDocument(document=parse_setup(body), digest=setup_digest(body))
    except (OSError, SetupError):
        return None
