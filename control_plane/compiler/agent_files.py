"""The file in which an agent looks for MCP servers: read, added to, written back. What else stands in it is kept."""

import json
import tomllib
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import Literal, NoReturn

import tomlkit
from tomlkit.exceptions import TOMLKitError

type Format = Literal["toml", "json"]


class AgentFileError(Exception):
    """A file that servers cannot be written into; the text says why and shows nothing of it."""


def names_in(content: str, format: Format, path: Sequence[str]) -> list[str]:
    """Return the names of the servers that stand in a file. Raises AgentFileError."""
    return list(_servers(_plain(content, format), path))


def merge_servers(
    content: str, format: Format, path: Sequence[str], servers: Iterable[tuple[str, Mapping[str, object]]]
) -> str:
    """Return the file with servers added at a path; names of which none stands there yet. Raises AgentFileError.

    TOML keeps its comments and its layout, JSON the order of its members; it is indented by two.
    """
    given = list(servers)
    expected = _plain(content, format)
    _add(expected, path, given)
    if format == "json":
        return _write_json(expected)
    try:
        document = tomlkit.parse(content)
        _add(document, path, given)
        written = tomlkit.dumps(document)
        # Tables that are spelled by dotted keys cannot always be added to; what cannot be right is not written.
        is_right = tomllib.loads(written) == expected
    except (TOMLKitError, tomllib.TOMLDecodeError, TypeError, AttributeError):
        is_right = False
    if not is_right:
        raise AgentFileError(f"nothing can be added to [{'.'.join(path)}] as it is spelled; write it as tables")
    return written


def _add(
    document: MutableMapping[str, object], path: Sequence[str], servers: Iterable[tuple[str, Mapping[str, object]]]
) -> None:
    place = document
    for step in path:
        if step not in place:
            place[step] = tomlkit.table(is_super_table=True) if isinstance(document, tomlkit.TOMLDocument) else {}
        found = place[step]
        assert isinstance(found, MutableMapping), "names_in has looked"
        place = found
    for name, entry in servers:
        place[name] = dict(entry)


def _servers(document: Mapping[str, object], path: Sequence[str]) -> Mapping[str, object]:
    place = document
    for step in path:
        found = place.get(step, {})
        if not isinstance(found, Mapping):
            raise AgentFileError(f"{'.'.join(path)} is no table of servers")
        place = found
    return place


def _plain(content: str, format: Format) -> dict[str, object]:
    try:
        if format == "toml":
            return tomllib.loads(content)
        document = json.loads(content, parse_constant=_refuse) if content.strip() else {}
    except (tomllib.TOMLDecodeError, ValueError, RecursionError):
        raise AgentFileError(f"it is not {format.upper()}") from None
    if not isinstance(document, dict):
        raise AgentFileError("it is not a JSON object")
    return document


def _write_json(document: object) -> str:
    try:
        return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    except ValueError:  # a number that was too large to be read
        raise AgentFileError("it holds a number that JSON readers disagree about") from None


def _refuse(word: str) -> NoReturn:
    raise ValueError(word)
