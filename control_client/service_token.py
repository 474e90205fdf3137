"""The token by which a part speaks to the control plane, read from a file that may be replaced at any time."""

import asyncio
import os
from pathlib import Path
from typing import Final

from control_client.errors import TOKEN_UNREADABLE, ControlError
from sallyport.claims import TokenError
from sallyport.wire.compact_token import MAX_TOKEN_BYTES, parse_compact, token_object


class ServiceToken:
    """Give the token that the file holds now."""

    advice: Final = "control.token_file holds a token that is not accepted; mint one with `sallyport token mint`"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._token = ""
        # When the token that was read last ends, in unix seconds; None before that, and where it does not say.
        self.ends_at: float | None = None

    async def current(self, *, again: bool = False) -> str:
        """Return the token, read anew when the file has changed, or whenever `again` is said; raises ControlError."""
        # On a thread: a secret may lie on a network mount.
        return await asyncio.to_thread(self._read, again)

    def _read(self, again: bool) -> str:
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                seen = (status.st_ino, status.st_mtime_ns, status.st_size)
                if again or seen != self._seen:
                    self._token = _checked(file.read(MAX_TOKEN_BYTES + 1))
                    self.ends_at = _ends_at(self._token)
                    self._seen = seen
        except OSError as error:
            raise _unreadable(f"control.token_file: {self._path} cannot be read ({error.strerror})") from None
        except ValueError:
            raise _unreadable(f"control.token_file: {self._path} holds no token") from None
        return self._token

    def __repr__(self) -> str:
        return f"<ServiceToken of {self._path}>"


def _checked(content: bytes) -> str:
    token = content.decode("ascii").strip()
    if not token or len(token) > MAX_TOKEN_BYTES or not token.isprintable() or " " in token:
        raise ValueError("not a token")
    return token


def _ends_at(token: str) -> float | None:
    """Read a token's end as it stands there; whoever is shown the token decides whether that is true."""
    try:
        expires_at = token_object(parse_compact(token).payload, "payload").get("exp")
    except TokenError:
        return None
    return float(expires_at) if isinstance(expires_at, int) and not isinstance(expires_at, bool) else None


def _unreadable(detail: str) -> ControlError:
    return ControlError(TOKEN_UNREADABLE, temporary=True, detail=detail, retry_after_seconds=5)
