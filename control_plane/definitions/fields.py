"""Field types that schemas of definitions share, and a secret as it is typed in."""

import re
from collections.abc import Sequence
from typing import Annotated, Final

from pydantic import AfterValidator, Field, PlainValidator, StringConstraints, WithJsonSchema

from sallyport.plan.fields import refusal
from sallyport.plan.issue_codes import IssueCode
from sallyport.secret import Secret

MAX_CREDENTIAL_BYTES: Final = 16 * 1024

_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9._-]{1,100}$"
_REPOSITORY: Final = re.compile(_PATTERN)


def _read_secret(value: object) -> Secret:
    # No message repeats the value, and pydantic's own would.
    if not isinstance(value, str) or not value or value != value.strip(" "):
        raise refusal(IssueCode.MALFORMED, "a text without space at its ends is expected")
    encoded = value.encode("utf-8", "surrogatepass")
    if len(encoded) > MAX_CREDENTIAL_BYTES:
        raise refusal(IssueCode.OUT_OF_RANGE, f"at most {MAX_CREDENTIAL_BYTES} bytes")
    if any(byte < 0x20 or byte == 0x7F for byte in encoded):
        raise refusal(IssueCode.MALFORMED, "a credential holds no line break and no other control character")
    return Secret(encoded)


def _read_pem(value: object) -> Secret:
    if not isinstance(value, str) or "-----BEGIN" not in value:
        raise refusal(IssueCode.MALFORMED, "a private key in PEM is expected")
    encoded = value.encode("utf-8", "surrogatepass")
    if len(encoded) > MAX_CREDENTIAL_BYTES:
        raise refusal(IssueCode.OUT_OF_RANGE, f"at most {MAX_CREDENTIAL_BYTES} bytes")
    return Secret(encoded)


def _read_typed(value: object) -> Secret:
    return _read_pem(value) if isinstance(value, str) and value.startswith("-----BEGIN") else _read_secret(value)


SecretText = Annotated[Secret, PlainValidator(_read_secret), WithJsonSchema({"type": "string", "writeOnly": True})]
SecretPem = Annotated[Secret, PlainValidator(_read_pem), WithJsonSchema({"type": "string", "writeOnly": True})]

# Of either kind, where the name of the secret decides which it has to be.
SecretTyped = Annotated[Secret, PlainValidator(_read_typed), WithJsonSchema({"type": "string", "writeOnly": True})]


def _check_repository(text: str) -> str:
    if _REPOSITORY.fullmatch(text) is None or text.endswith(("/.", "/..", ".git")):
        raise refusal(IssueCode.MALFORMED, "a repository is written owner/name, without .git")
    return text


# `owner/name` as GitHub has them. It becomes segments of a path, so it never is one that leads elsewhere.
Repository = Annotated[str, AfterValidator(_check_repository), WithJsonSchema({"type": "string", "pattern": _PATTERN})]

# What a provider says of the account behind a connection, and no member ever: see contract.provider_owned.
FromProvider: Final = Field(json_schema_extra={"readOnly": True})

# A directory of the sandbox in the plain form that a setup document asks for (sallyport/setup.py).
Directory = Annotated[str, StringConstraints(pattern=r"^(?:/[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}){1,8}$")]

# One scope of OAuth (RFC 6749 section 3.3), and no comma, by which some providers join them.
Scope = Annotated[str, StringConstraints(pattern=r"^[!#-+.-\[\]-~-]{1,256}$")]


def distinct(texts: Sequence[str]) -> bool:
    """Say whether no two are the same but for the case of their letters."""
    return len({text.lower() for text in texts}) == len(texts)
