"""The values that gateway settings hold, and how each is read: addresses, patterns, networks, credential places."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from sallyport.host import HostError, split_authority
from sallyport.net.setting_kinds import LISTEN, HostPort
from sallyport.settings import PATH, Kind, or_off, size

# A connection id, secret type or slot key (contracts section 1: ids are prefixed words).
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentPlace:
    """A credential in an environment variable of the gateway."""

    variable: str

    def __str__(self) -> str:
        return f"the environment variable {self.variable}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePlace:
    """A credential in a file; one trailing newline is not part of it."""

    path: Path

    def __str__(self) -> str:
        return f"the file {self.path}"


type CredentialPlace = EnvironmentPlace | FilePlace

# Where audit records go when it is not a file.
# Words of limits.memory that are no size.
MEMORY_CGROUP: Final = "cgroup"
MEMORY_OFF: Final = "off"
AUDIT_STDOUT: Final = "-"
AUDIT_OFF: Final = "off"


def _parse_host_port(value: object, _: Path) -> HostPort:
    try:
        return HostPort(*split_authority(str(value), None))
    except HostError as error:
        raise ValueError(f"{value!r} is not host:port; {error}") from None


def _parse_connect_to(pair: object, base_dir: Path) -> tuple[HostPort, HostPort]:
    assert isinstance(pair, tuple)
    return _parse_host_port(pair[0], base_dir), _parse_host_port(pair[1], base_dir)


def _parse_proxy(value: object, base_dir: Path) -> HostPort:
    parts = urlsplit(str(value))
    if parts.username is not None or parts.password is not None:
        # The value itself is not repeated: it holds a password.
        raise ValueError("a proxy with user and password is not supported; remove them")
    if parts.scheme != "http" or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"{value!r} is not a proxy; write http://host:port")
    return _parse_host_port(parts.netloc, base_dir)


def _parse_credential(pair: object, base_dir: Path) -> tuple[tuple[str, ...], CredentialPlace]:
    # No message here repeats a value: whoever got the form wrong may have written the secret itself.
    assert isinstance(pair, tuple)
    reference = tuple(str(pair[0]).split("/"))
    if not 1 <= len(reference) <= 3 or not all(map(_WORD.fullmatch, reference)):
        raise ValueError("write <connectionId>, <connectionId>/<secretType> or <connectionId>/<secretType>/<slotKey>")
    kind, given = _credential_place(pair[1])
    if kind == "env" and _VARIABLE.fullmatch(given) is not None:
        return reference, EnvironmentPlace(variable=given)
    if kind == "file":
        return reference, FilePlace(path=PATH.parse(given, base_dir))
    raise ValueError("write {env: NAME} or {file: path}; the secret itself never stands here")


def _credential_place(value: object) -> tuple[str, str]:
    if isinstance(value, str):  # as a variable has it: con_1=env:NAME
        kind, _, given = value.partition(":")
        return kind, given
    if isinstance(value, Mapping) and len(value) == 1:
        [(kind, given)] = value.items()
        if isinstance(given, str):
            return str(kind), given
    return "", ""


def _parse_memory(value: object, base_dir: Path) -> int | str:
    return str(value) if value in (MEMORY_CGROUP, MEMORY_OFF) else _MEMORY_SIZE.parse(value, base_dir)


def _parse_audit_path(value: object, base_dir: Path) -> str:
    return str(value) if value in (AUDIT_STDOUT, AUDIT_OFF) else str(PATH.parse(value, base_dir))


_MEMORY_SIZE = size("128MiB", "1024GiB")
MEMORY = Kind(_parse_memory, f"{_MEMORY_SIZE.bounds}, `cgroup`, or `off`")
LISTEN_OR_OFF = or_off(LISTEN)
CONNECT_TO = Kind(_parse_connect_to, "host:port to address:port")
PROXY = Kind(_parse_proxy, "http://host:port")
CREDENTIAL = Kind(
    _parse_credential,
    "`<connectionId>[/<secretType>[/<slotKey>]]` to `{env: NAME}` or `{file: path}`; "
    "in a variable `env:NAME` or `file:path`",
)
AUDIT_PATH = Kind(_parse_audit_path, "a path, `-` for standard output, or `off`")
