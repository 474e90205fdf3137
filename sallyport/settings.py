"""Settings as data: read a document and its environment twin into frozen dataclasses, strictly, all faults at once.

A part's `config.py` declares dataclasses whose fields are made by `setting`, `setting_list`, `setting_map` and
`section`; each field carries its bounds, its meaning and why the default is what it is, and the documentation is
checked against exactly that. The setting a.b is also the variable <PREFIX>_A_B, and the environment wins.
"""

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any, assert_never, cast

# A message that lists more names than this is not read.
LONGEST_LIST = 24

_METADATA_KEY = "sallyport.setting"
_DURATION = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,6}))?(ms|s|m|h|d)")
_SIZE = re.compile(r"([0-9]{1,15})(B|KiB|MiB|GiB)?")
_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_BYTES = {None: 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingIssue:
    """One fault: where (a JSON pointer into the document, or the variable's name) and what to do about it."""

    pointer: str
    message: str

    def __str__(self) -> str:
        return f"{self.pointer or '/'}: {self.message}"


class ConfigError(Exception):
    """The settings cannot be used; .issues holds every fault found."""

    def __init__(self, issues: list[SettingIssue]) -> None:
        super().__init__("\n".join(map(str, issues)))
        self.issues = tuple(issues)


class Shape(Enum):
    """How a setting is written: one value, a list (comma separated in a variable), or a map (key=value,...)."""

    ONE = "one"
    LIST = "list"
    MAP = "map"


@dataclass(frozen=True, slots=True)
class Kind[T]:
    """How one value is read: parse raises ValueError whose text says what to write. bounds is for readers.

    A parser gets the raw value and the folder that relative paths start from.
    """

    parse: Callable[[object, Path], T]
    bounds: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is known of one setting. default is written as in a document; None: absent."""

    kind: Kind[Any]
    shape: Shape
    default: str | None
    meaning: str
    reason: str

    def value(self, base_dir: Path) -> object:
        """Return the default."""
        match self.shape:
            case Shape.ONE:
                return None if self.default is None else self.kind.parse(self.default, base_dir)
            case Shape.LIST:
                return ()
            case Shape.MAP:
                return MappingProxyType({})
            case _:
                assert_never(self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedSetting:
    """A setting with its two names, as documentation shows them."""

    name: str
    variable: str
    setting: Setting


def setting[T](kind: Kind[T], default: str, meaning: str, reason: str) -> T:
    """Declare a setting that always has a value."""
    return cast(T, _field(Setting(kind=kind, shape=Shape.ONE, default=default, meaning=meaning, reason=reason)))


def optional_setting[T](kind: Kind[T], meaning: str, reason: str) -> T | None:
    """Declare a setting that may be absent."""
    return cast(T | None, _field(Setting(kind=kind, shape=Shape.ONE, default=None, meaning=meaning, reason=reason)))


def setting_list[T](kind: Kind[T], meaning: str, reason: str) -> tuple[T, ...]:
    """Declare a list, empty by default."""
    return cast(
        tuple[T, ...], _field(Setting(kind=kind, shape=Shape.LIST, default=None, meaning=meaning, reason=reason))
    )


def setting_map[K, V](kind: Kind[tuple[K, V]], meaning: str, reason: str) -> Mapping[K, V]:
    """Declare a map, empty by default; kind reads one (key, value) pair."""
    return cast(
        Mapping[K, V], _field(Setting(kind=kind, shape=Shape.MAP, default=None, meaning=meaning, reason=reason))
    )


def section[T](kind: type[T]) -> T:
    """Declare a group of settings."""
    return dataclasses.field(default_factory=kind, metadata={_METADATA_KEY: kind})


def _field(declared: Setting) -> object:
    return dataclasses.field(default_factory=lambda: declared.value(Path()), metadata={_METADATA_KEY: declared})


def describe(kind: type[Any], prefix: str, path: tuple[str, ...] = ()) -> Iterator[NamedSetting]:
    """Yield every setting of a declared dataclass, in order."""
    for field in dataclasses.fields(kind):
        declared = field.metadata[_METADATA_KEY]
        names = (*path, field.name)
        if isinstance(declared, Setting):
            yield NamedSetting(name=".".join(names), variable=_variable(prefix, names), setting=declared)
        else:
            yield from describe(declared, prefix, names)


class Reader:
    """One reading of one document. A faulty setting takes its default, so that reading goes on to the next fault."""

    def __init__(self, environ: Mapping[str, str], base_dir: Path, prefix: str) -> None:
        # An empty variable counts as unset: `X: ${X:-}` in a compose file means "not given".
        self._environ = {name: text for name, text in environ.items() if text != ""}
        self._base_dir = base_dir
        self._prefix = prefix
        self.issues: list[SettingIssue] = []

    def read[T](self, kind: type[T], document: object) -> T:
        """Read the whole document; look at .issues before using the result."""
        value = self._section(kind, document, ())
        self._refuse_unknown_variables(kind)
        return value

    def fault(self, pointer: str, message: str) -> None:
        """Add a fault."""
        self.issues.append(SettingIssue(pointer=pointer, message=message))

    def _section[T](self, kind: type[T], document: object, path: tuple[str, ...]) -> T:
        fields = {field.name: field.metadata[_METADATA_KEY] for field in dataclasses.fields(cast(Any, kind))}
        given = self._mapping(document, path, fields)
        values = {}
        for name, declared in fields.items():
            inner = (*path, name)
            if isinstance(declared, Setting):
                values[name] = self._setting(declared, given.get(name), inner)
            else:
                values[name] = self._section(declared, given.get(name), inner)
        return kind(**values)

    def _mapping(self, document: object, path: tuple[str, ...], known: Mapping[str, object]) -> Mapping[str, object]:
        # A section with every line commented out is null in YAML; it means what its absence means.
        if document is None:
            return {}
        if not isinstance(document, Mapping):
            self.fault(_pointer(path), f"write a mapping with any of: {', '.join(known)}")
            return {}
        for name in document:
            if name not in known:
                self.fault(_pointer((*path, str(name))), f"unknown setting; {_suggest(str(name), known)}")
        return document

    def _setting(self, declared: Setting, given: object, path: tuple[str, ...]) -> object:
        variable = _variable(self._prefix, path)
        text = self._environ.get(variable)
        pointer = _pointer(path) if text is None else variable
        raw = given if text is None else _from_text(declared.shape, text)
        if raw is None:
            return declared.value(self._base_dir)
        match declared.shape:
            case Shape.ONE:
                return self._parse(declared, raw, pointer, declared.value)
            case Shape.LIST:
                return self._list(declared, raw, pointer)
            case Shape.MAP:
                return self._map(declared, raw, pointer)
            case _:
                assert_never(declared.shape)

    def _list(self, declared: Setting, raw: object, pointer: str) -> tuple[object, ...]:
        if not isinstance(raw, list):
            self.fault(pointer, "write a list")
            return ()
        before = len(self.issues)
        items = [self._parse(declared, item, f"{pointer}/{index}", lambda _: None) for index, item in enumerate(raw)]
        return tuple(items) if len(self.issues) == before else ()

    def _map(self, declared: Setting, raw: object, pointer: str) -> Mapping[object, object]:
        if not isinstance(raw, Mapping):
            self.fault(pointer, "write a mapping")
            return {}
        found: dict[object, object] = {}
        for key, item in raw.items():
            where = f"{pointer}/{_escape(str(key))}"
            pair = self._parse(declared, (key, item), where, lambda _: None)
            if pair is None:
                continue
            name, value = cast(tuple[object, object], pair)
            if name in found:
                self.fault(where, "names the same thing as an entry above; keep one of them")
            found[name] = value
        return MappingProxyType(found)

    def _parse(self, declared: Setting, raw: object, pointer: str, otherwise: Callable[[Path], object]) -> object:
        try:
            return cast(object, declared.kind.parse(raw, self._base_dir))
        except ValueError as error:
            self.fault(pointer, str(error))
            return otherwise(self._base_dir)

    def _refuse_unknown_variables(self, kind: type[Any]) -> None:
        # Other programs have variables with our prefix too; only what begins like one of our sections is ours.
        known = {named.variable: named for named in describe(kind, self._prefix)}
        sections = tuple(
            f"{_variable(self._prefix, (field.name,))}_"
            for field in dataclasses.fields(kind)
            if not isinstance(field.metadata[_METADATA_KEY], Setting)
        )
        for variable in self._environ:
            if variable.startswith(sections) and variable not in known:
                self.fault(variable, f"unknown setting; {_suggest(variable, known)}")


# Kinds of values that more than one part needs.


def duration(low: str, high: str) -> Kind[float]:
    """A span written with its unit, kept in seconds."""
    least, most = _seconds(low), _seconds(high)

    def parse(value: object, _: Path) -> float:
        seconds = _seconds(value)
        if not least <= seconds <= most:
            raise ValueError(f"{value!r} is out of bounds; write from {low} to {high}")
        return seconds

    return Kind(parse, f"{low} to {high}")


def size(low: str, high: str) -> Kind[int]:
    """A number of bytes: "64KiB", "2MiB" or a plain number."""
    least, most = _size(low), _size(high)

    def parse(value: object, _: Path) -> int:
        found = _size(value)
        if not least <= found <= most:
            raise ValueError(f"{value!r} is out of bounds; write from {low} to {high}")
        return found

    return Kind(parse, f"{low} to {high}")


def count(low: int, high: int) -> Kind[int]:
    """A whole number."""

    def parse(value: object, _: Path) -> int:
        text = str(value)
        if isinstance(value, bool) or not isinstance(value, int | str) or re.fullmatch("[0-9]{1,15}", text) is None:
            raise ValueError(f"{value!r} is not a whole number; write from {low} to {high}")
        if not low <= int(text) <= high:
            raise ValueError(f"{value!r} is out of bounds; write from {low} to {high}")
        return int(text)

    return Kind(parse, f"{low} to {high}")


def or_off[T](kind: Kind[T]) -> Kind[T | None]:
    """A value, or the word `off` for none."""

    def parse(value: object, base_dir: Path) -> T | None:
        return None if value == "off" else kind.parse(value, base_dir)

    return Kind(parse, f"{kind.bounds}, or `off`")


def choice(*words: str) -> Kind[str]:
    """One word of a list."""

    def parse(value: object, _: Path) -> str:
        if value not in words:
            raise ValueError(f"{value!r} is not one of: {', '.join(words)}")
        return str(value)

    return Kind(parse, " or ".join(words))


def _parse_flag(value: object, _: Path) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return value == "true"
    raise ValueError(f"{value!r} is not a switch; write true or false")


def _parse_text(value: object, _: Path) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError("write a non-empty text")
    return value


def _parse_path(value: object, base_dir: Path) -> Path:
    text = _parse_text(value, base_dir)
    if text.startswith("~"):
        raise ValueError("~ is not expanded; write the whole path")
    return base_dir / text


FLAG = Kind(_parse_flag, "true or false")
TEXT = Kind(_parse_text, "any text")
PATH = Kind(_parse_path, "a path; a relative one starts at the settings file's folder")


def _seconds(value: object) -> float:
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"{value!r} is not a duration; write a number with its unit, such as 250ms, 10s, 15m or 1h")
    whole, part, unit = found[1], found[2] or "", found[3]
    # In whole numbers up to the one division, which Python rounds to the nearest: 0.1s is 0.1.
    seconds: float = int(whole + part) * _MILLISECONDS[unit] / (1000 * 10 ** len(part))
    return seconds


def _size(value: object) -> int:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    found = _SIZE.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"{value!r} is not a size; write bytes, or a number with KiB, MiB or GiB, such as 64KiB")
    return int(found[1]) * _BYTES[found[2]]


def _from_text(shape: Shape, text: str) -> object:
    match shape:
        case Shape.ONE:
            return text
        case Shape.LIST:
            return [item.strip() for item in text.split(",") if item.strip()]
        case Shape.MAP:
            pairs = (item.strip().partition("=") for item in text.split(",") if item.strip())
            return {key.strip(): value.strip() for key, _, value in pairs}
        case _:
            assert_never(shape)


def _suggest(name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"remove it, or write one of: {', '.join(known)}" if len(known) <= LONGEST_LIST else "remove it"


def _variable(prefix: str, path: tuple[str, ...]) -> str:
    return "_".join((prefix, *path)).upper()


def _pointer(path: tuple[str, ...]) -> str:
    return "".join(f"/{_escape(name)}" for name in path)


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
