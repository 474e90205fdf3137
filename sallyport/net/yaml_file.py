"""Read a YAML file strictly: YAML 1.2 words only, no key twice, and never a quotation of what stands there."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final

import yaml

from sallyport.settings import ConfigError, SettingIssue

# No file that somebody wrote comes near; a wrong path to something huge is told apart from a slow start.
MAX_YAML_BYTES: Final = 1024 * 1024


def read_yaml(path: Path) -> Mapping[str, object]:
    """Return the mapping a file holds; raise ConfigError naming the file and what to do."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_YAML_BYTES + 1)
    except OSError as error:
        raise _file_fault(path, f"cannot be read ({error.strerror}); correct the path or its permissions") from None
    if len(content) > MAX_YAML_BYTES:
        raise _file_fault(path, "is larger than 1 MiB; nobody wrote that by hand")
    try:
        document = yaml.load(content, Loader=_StrictLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _file_fault(path, f"is not valid YAML: {_yaml_fault(error)}") from None
    except RecursionError:
        raise _file_fault(path, "is not valid YAML: it is nested too deeply") from None
    if document is not None and not isinstance(document, dict):
        raise _file_fault(path, "must hold a mapping: lines of `name: value`")
    return document or {}


def _file_fault(path: Path, message: str) -> ConfigError:
    return ConfigError([SettingIssue(pointer=str(path), message=message)])


class _StrictLoader(yaml.SafeLoader):
    """YAML 1.2 core words only, so that `off` stays a word, 1:30 is no number and 010 is ten; no key twice."""

    # Both without what YAML 1.1 knows besides.
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  PyYAML's own shape
    yaml_constructors: ClassVar[dict[str | None, Callable[..., object]]] = {
        tag: yaml.SafeLoader.yaml_constructors[tag]
        for tag in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:seq", None)  # None: what has no constructor
    }


def _add_word(name: str, pattern: str, first: Sequence[str], meaning: Callable[[str], object]) -> None:
    """Read what matches as a word of this tag, and nothing else under it: a tag may be written out as well."""
    tag, word = f"tag:yaml.org,2002:{name}", re.compile(pattern)

    def construct(loader: yaml.SafeLoader, node: yaml.Node) -> object:
        text = node.value if isinstance(node, yaml.ScalarNode) else None
        if text is not None and word.fullmatch(text) is not None:
            try:
                return meaning(text)
            except ValueError:  # a number with thousands of digits
                pass
        raise yaml.constructor.ConstructorError(None, None, "not a value of its tag", node.start_mark)

    _StrictLoader.add_implicit_resolver(tag, re.compile(f"^(?:{pattern})$"), list(first))
    _StrictLoader.add_constructor(tag, construct)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("too large")
    return number


_add_word("null", "~|null|", ("~", "n", ""), lambda _: None)
_add_word("bool", "true|false", "tf", lambda text: text == "true")
_add_word("int", "[-+]?[0-9]+", "-+0123456789", int)
_add_word("float", r"[-+]?[0-9]+\.[0-9]+", "-+0123456789", _finite)
_StrictLoader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile("^<<$"), ["<"])


def _construct_mapping(loader: yaml.SafeLoader, node: yaml.Node) -> dict[object, object]:
    if not isinstance(node, yaml.MappingNode):
        raise yaml.constructor.ConstructorError(None, None, "not a value of its tag", node.start_mark)
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
