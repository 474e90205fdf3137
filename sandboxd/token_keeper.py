"""Where the tokens of this sandbox come from and where the next one is kept: two files and the answers between.

Somebody writes the token file, and may replace it while sandboxd runs. sandboxd writes only the state file, with the
renewal token that the last answer brought, so that one that was killed comes back.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sallyport.net.whole_file import replace_file
from sandboxd.core.renewal import Bearer, Renewal, Tokens, from_strings, read_token_file
from sandboxd.log import Log

STATE_NAME: Final = "renewal.json"
# Two tokens of 8 KiB and their names.
_MAX_FILE_BYTES: Final = 64 * 1024
_SECRET = 0o600


class TokenFileError(Exception):
    """The token file cannot be used; says why, and never quotes it."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


class TokenKeeper:
    """The tokens of now. Call `read` before an attempt: it notices a token file that was replaced."""

    def __init__(self, token_file: Path, state_dir: Path, log: Log) -> None:
        self.renewal = Renewal()
        self._token_file = token_file
        self._state_file = state_dir / STATE_NAME
        self._log = log
        self._source = ""  # which content of the token file is in use
        self._seen: tuple[int, int, int] | None = None

    def read(self, now: float) -> bool:
        """Read the token file if it is another than before; say whether it was. Raises TokenFileError."""
        try:
            stat = self._token_file.stat()
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if seen == self._seen:
                return False
            with self._token_file.open("rb") as file:
                content = file.read(_MAX_FILE_BYTES + 1)
        except OSError as error:
            raise TokenFileError(self._token_file, error.strerror or "cannot be read") from None
        source = hashlib.sha256(content).hexdigest()
        self._seen = seen
        if source == self._source:
            return False
        try:
            tokens = read_token_file(content[:_MAX_FILE_BYTES])
        except ValueError as error:
            raise TokenFileError(self._token_file, str(error)) from None
        self.renewal.bring(self._with_kept(tokens, source), now)
        self._source = source
        return True

    def bearer(self, now: float) -> Bearer | None:
        """Choose what to show the gateway; None while nothing is good."""
        return self.renewal.bearer(now)

    def answered(self, document: Mapping[str, object], now: float) -> None:
        """Take a token.response and keep its renewal token; RemoteProtocolError."""
        if self.renewal.answered(document, now):
            self._keep()

    def _with_kept(self, brought: Tokens, source: str) -> Tokens:
        """Put the kept renewal token in the place of the one it descends from.

        Only of the one: a token file with another content is newer than anything that was kept.
        """
        try:
            kept = json.loads(self._state_file.read_bytes()[:_MAX_FILE_BYTES])
            if not isinstance(kept, dict) or kept.get("source") != source:
                return brought
            renewal = from_strings("", str(kept["renewalToken"]))
        except FileNotFoundError:
            return brought
        except (OSError, ValueError, KeyError, RecursionError):
            self._log.warning("renewal_token_unreadable", path=str(self._state_file))
            return brought
        return Tokens(
            token=brought.token,
            expires_at=brought.expires_at,
            renewal=renewal.renewal,
            renewal_expires_at=renewal.renewal_expires_at,
        )

    def _keep(self) -> None:
        """Write the renewal token down before anything else: the one before it is used up."""
        tokens = self.renewal.tokens
        if not tokens.renewal:
            return
        kept = {"source": self._source, "renewalToken": tokens.renewal}
        try:
            replace_file(self._state_file, json.dumps(kept).encode("ascii"), mode=_SECRET)
        except OSError as error:
            self._log.error("renewal_token_not_kept", path=str(self._state_file), detail=error.strerror)

    def __repr__(self) -> str:
        return f"<TokenKeeper {self.renewal!r}>"


def make_state_dir(path: Path) -> None:
    """Make the state directory, which others may enter for the CA files; OSError."""
    path.mkdir(parents=True, exist_ok=True)
    if path.stat().st_uid == os.geteuid():
        path.chmod(0o755)
