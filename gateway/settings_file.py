"""Read a YAML settings file strictly: YAML 1.2 words only, no key twice, and never a quotation of what stands there."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import yaml

from sallyport.settings import ConfigError, SettingIssue

# No settings file comes near; a wrong path to something huge is told apart from a slow start.
MAX_CONFIG_BYTES: Final = 1024 * 1024


def read_yaml(path: Path) -> Mapping[str, object]:
    """Return the mapping a file holds; raise ConfigError naming the file and what to do."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise _file_fault(path, f"cannot be read ({error.strerror}); correct the path or its permissions") from None
    if len(content) > MAX_CONFIG_BYTES:
        raise _file_fault(path, "is larger than 1 MiB; it is not a settings file")
    try:
        document = yaml.load(content, Loader=_StrictLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _file_fault(path, f"is not valid YAML: {_yaml_fault(error)}") from None
    if document is not None and not isinstance(document, dict):
        raise _file_fault(path, "must hold a mapping, such as `listen: {proxy: 127.0.0.1:3128}`")
    return document or {}


def _file_fault(path: Path, message: str) -> ConfigError:
    return ConfigError([SettingIssue(pointer=str(path), message=message)])


class _StrictLoader(yaml.SafeLoader):
    """YAML 1.2 core words only, so that `off` stays a word and 1:30 is no number; no key twice."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  PyYAML's own shape


for _tag, _pattern, _first in (
    ("null", "~|null|", ["~", "n", ""]),
    ("bool", "true|false", ["t", "f"]),
    ("int", "[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?[0-9]+\.[0-9]+", list("-+0123456789")),
    ("merge", "<<", ["<"]),
):
    _StrictLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


def _construct_mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[object, object]:
    loader.flatten_mapping(node)
    found: dict[object, object] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise yaml.constructor.ConstructorError(None, None, "a key must be text; quote it", key_node.start_mark)
        if key in found:
            raise yaml.constructor.ConstructorError(None, None, f"{key!r} stands twice", key_node.start_mark)
        found[key] = loader.construct_object(value_node, deep=True)
    return found


_StrictLoader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)


def _yaml_fault(error: yaml.YAMLError | UnicodeDecodeError) -> str:
    # Never the snippet PyYAML shows: someone may have written a secret on that line.
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return "it is not text in UTF-8"
