"""Keys of AWS: what a request is signed with (contracts section 4, kind `aws_session`). Pure."""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from sallyport.json_object import json_object
from sallyport.secret import Secret, why_unusable

KIND: Final = "aws_session"

# It stands between slashes in a field of its own; AWS gives out 16 to 128 letters and digits.
_ACCESS_KEY_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_NEEDED: Final = frozenset({"kind", "accessKeyId", "secretAccessKey"})
_KNOWN: Final = _NEEDED | {"sessionToken", "expiresAt"}
# Unix seconds up to the year 2286: milliseconds, the usual slip, are beyond it.
_LAST_INSTANT: Final = 10_000_000_000


class AwsKeys(NamedTuple):
    """An access key and its secret; a session token where they are temporary."""

    access_key_id: str
    secret_access_key: Secret
    session_token: Secret | None


class KeysUnusable(ValueError):
    """They cannot be signed with; str() says why and quotes nothing."""


def check_access_key_id(text: str) -> str:
    """Return what may stand in the scope of a signature; raises KeysUnusable."""
    if _ACCESS_KEY_ID.fullmatch(text) is None:
        raise KeysUnusable("accessKeyId is not 1 to 128 letters and digits")
    return text


def read_keys(text: str) -> tuple[AwsKeys, int | None] | None:
    """Read keys that an operator wrote down as JSON, and when they end; None where text is of no such kind.

    Raises KeysUnusable.
    """
    try:
        document = json_object(text.encode("utf-8")) if text.lstrip()[:1] == "{" else {}
    except ValueError:
        return None
    if document.get("kind") != KIND:
        return None
    missing, unknown = _NEEDED - document.keys(), document.keys() - _KNOWN
    if missing or unknown:
        count = f"{len(unknown)} unknown" if unknown else f"no {min(missing)}"
        raise KeysUnusable(f"an {KIND} has {', '.join(sorted(_KNOWN))}; this one has {count}")
    keys = AwsKeys(
        check_access_key_id(_text(document, "accessKeyId")),
        _secret(document, "secretAccessKey"),
        _secret(document, "sessionToken") if "sessionToken" in document else None,
    )
    return keys, _instant(document.get("expiresAt"))


def _text(document: Mapping[str, object], name: str) -> str:
    value = document[name]
    if not isinstance(value, str):
        raise KeysUnusable(f"{name} is not a text")
    return value


def _secret(document: Mapping[str, object], name: str) -> Secret:
    text = _text(document, name)
    reason = why_unusable(text)
    if reason is not None:
        raise KeysUnusable(f"{name} is refused: {reason}")
    return Secret(text.encode("latin-1"))


def _instant(value: object) -> int | None:
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= _LAST_INSTANT:
        raise KeysUnusable("expiresAt is not an instant in unix seconds")
    return value
