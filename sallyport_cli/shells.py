"""Variables written for a shell, a file or a program to read: each format with its own quoting.

Every function returns lines. A value with a line break or NUL is refused before: half of these cannot carry it.
"""

import enum
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping

# What every dotenv reader takes bare; anything else is quoted.
_BARE = re.compile(r"[\w@%+=:,./\[\]-]*", re.ASCII)


class Format(enum.StrEnum):
    """Who is going to read the variables."""

    SH = "sh"
    FISH = "fish"
    DOTENV = "dotenv"
    JSON = "json"
    DOCKER = "docker"
    POWERSHELL = "powershell"


def render(form: Format, values: Mapping[str, str], removed: Iterable[str]) -> Iterator[str]:
    """Yield the lines that set `values` and unset `removed`; ValueError for a value that no line can hold."""
    for name, value in values.items():
        if re.search(r"[\n\r\0]", value):
            raise ValueError(f"{name} would hold a line break")
    match form:
        case Format.SH:
            return _sh(values, removed)
        case Format.FISH:
            return _fish(values, removed)
        case Format.DOTENV:
            return _dotenv(values)
        case Format.JSON:
            return iter([json.dumps({"set": dict(values), "unset": list(removed)}, indent=2, ensure_ascii=False)])
        case Format.DOCKER:
            return _docker(values)
        case Format.POWERSHELL:
            return _powershell(values, removed)


def _sh(values: Mapping[str, str], removed: Iterable[str]) -> Iterator[str]:
    """POSIX: nothing is special between single quotes."""
    yield from (f"export {name}={shlex.quote(value)}" for name, value in values.items())
    yield from (f"unset {name}" for name in removed)


def _fish(values: Mapping[str, str], removed: Iterable[str]) -> Iterator[str]:
    """Single quotes in which fish still reads \\' and \\\\."""
    for name, value in values.items():
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        yield f"set -gx {name} '{escaped}'"
    yield from (f"set -e {name}" for name in removed)


def _dotenv(values: Mapping[str, str]) -> Iterator[str]:
    """Quoted by single quotes where it can be: most readers expand $ and \\ between double ones.

    A dotenv file cannot unset a variable.
    """
    for name, value in values.items():
        if _BARE.fullmatch(value):
            yield f"{name}={value}"
        elif "'" not in value and "\\" not in value:
            yield f"{name}='{value}'"
        else:
            escaped = re.sub(r'([\\"$`])', r"\\\1", value)
            yield f'{name}="{escaped}"'


def _docker(values: Mapping[str, str]) -> Iterator[str]:
    """For `docker run --env-file`: the rest of the line is the value, quotes and all. It cannot unset either."""
    yield from (f"{name}={value}" for name, value in values.items())


def _powershell(values: Mapping[str, str], removed: Iterable[str]) -> Iterator[str]:
    """Single quotes, doubled inside. PowerShell takes typographic quotes for quotes too."""
    for name, value in values.items():
        escaped = re.sub("(['\u2018\u2019\u201a\u201b])", r"\1\1", value)
        yield f"$env:{name} = '{escaped}'"
    yield from (f"Remove-Item Env:{name} -ErrorAction SilentlyContinue" for name in removed)
