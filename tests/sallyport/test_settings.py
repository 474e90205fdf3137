"""Settings as data: what is read, what is refused, and that every fault is told at once."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sallyport.settings import (
    FLAG,
    PATH,
    TEXT,
    ConfigError,
    Kind,
    Reader,
    SettingIssue,
    Shape,
    choice,
    count,
    describe,
    duration,
    optional_setting,
    or_off,
    section,
    setting,
    setting_list,
    setting_map,
    size,
)

# ruff: noqa: RUF009  setting() and its kin are dataclasses.field by another name

BASE = Path("/etc/sallyport")


def parse_pair(pair: object, _: Path) -> tuple[str, str]:
    assert isinstance(pair, tuple)
    key, value = pair
    if value == "bad":
        raise ValueError("write something else")
    return str(key).lower(), str(value)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """A section."""

    connect: float = setting(duration("100ms", "1m"), "10s", "How long.", "Why.")
    tries: int = setting(count(1, 9), "3", "How often.", "Why.")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One of each."""

    name: str = setting(TEXT, "nobody", "Who.", "Why.")
    home: Path = setting(PATH, "data", "Where.", "Why.")
    key: Path | None = optional_setting(PATH, "Which.", "Why.")
    files: tuple[Path, ...] = setting_list(PATH, "Which.", "Why.")
    map: Mapping[str, str] = setting_map(Kind(parse_pair, "pairs"), "What.", "Why.")
    waits: Waits = section(Waits)


def read(document: object, environ: Mapping[str, str] | None = None) -> tuple[Example, list[str]]:
    reader = Reader(environ or {}, BASE, "X")
    return reader.read(Example, document), [str(issue) for issue in reader.issues]


def test_an_empty_document_gives_the_defaults() -> None:
    value, issues = read({})
    assert issues == []
    assert value == Example(home=BASE / "data")
    assert (value.waits.connect, value.key, value.files, dict(value.map)) == (10.0, None, (), {})


def test_null_means_absent() -> None:
    assert read({"waits": None, "name": None, "files": None}) == (Example(home=BASE / "data"), [])


def test_a_document_is_read() -> None:
    value, issues = read(
        {"home": "/srv", "key": "k.pem", "files": ["a", "/b"], "map": {"K": "v"}, "waits": {"connect": "250ms"}}
    )
    assert issues == []
    assert value.home == Path("/srv")
    assert value.key == BASE / "k.pem"
    assert value.files == (BASE / "a", Path("/b"))
    assert value.map == {"k": "v"}
    assert value.waits == Waits(connect=0.25)


def test_the_environment_wins() -> None:
    environ = {"X_WAITS_CONNECT": "1m", "X_FILES": "a, b ,", "X_MAP": "K=v=w,L=x", "X_NAME": "env"}
    value, issues = read({"waits": {"connect": "1s", "tries": 5}, "files": ["z"], "name": "document"}, environ)
    assert issues == []
    assert value.waits == Waits(connect=60.0, tries=5)
    assert value.files == (BASE / "a", BASE / "b")
    assert value.map == {"k": "v=w", "l": "x"}
    assert value.name == "env"


def test_an_empty_variable_is_unset() -> None:
    assert read({"name": "document"}, {"X_NAME": "", "X_WAITS_NONSENSE": ""})[0].name == "document"


def test_every_fault_is_told_at_once_with_its_place() -> None:
    document = {
        "nmae": 1,
        "files": ["ok", 3],
        "map": {"a/b": "bad", "k": "1", "K": "2"},
        "waits": {"connect": 10, "conect": "1s"},
    }
    _, issues = read(document, {"X_WAITS_TRIES": "10", "X_WAITS_TRYS": "1", "X_OTHER": "not ours"})
    assert issues == [
        "/nmae: unknown setting; did you mean 'name'?",
        "/files/1: write a non-empty text",
        "/map/a~1b: write something else",
        "/map/K: names the same thing as an entry above; keep one of them",
        "/waits/conect: unknown setting; did you mean 'connect'?",
        "/waits/connect: 10 is not a duration; write a number with its unit, such as 250ms, 10s, 15m or 1h",
        "X_WAITS_TRIES: '10' is out of bounds; write from 1 to 9",
        "X_WAITS_TRYS: unknown setting; did you mean 'X_WAITS_TRIES'?",
    ]


@pytest.mark.parametrize("document", [[], "text", 3, True])
def test_a_document_or_section_of_another_shape_is_a_fault(document: object) -> None:
    assert read(document)[1] == ["/: write a mapping with any of: name, home, key, files, map, waits"]
    assert read({"waits": document})[1] == ["/waits: write a mapping with any of: connect, tries"]


def test_an_error_says_every_fault_on_a_line_of_its_own() -> None:
    issues = [
        SettingIssue(pointer="/name", message="write a text"),
        SettingIssue(pointer="", message="write a mapping"),
    ]
    error = ConfigError(issues)
    assert str(error) == "/name: write a text\n/: write a mapping"
    assert error.issues == tuple(issues)


def test_lists_and_maps_of_another_shape_are_faults() -> None:
    assert read({"files": "a", "map": ["a"]})[1] == ["/files: write a list", "/map: write a mapping"]


def test_describe_names_each_setting_in_order() -> None:
    named = list(describe(Example, "X"))
    assert [each.name for each in named] == ["name", "home", "key", "files", "map", "waits.connect", "waits.tries"]
    assert named[5].variable == "X_WAITS_CONNECT"
    assert named[5].setting.kind.bounds == "100ms to 1m"
    assert named[3].setting.shape is Shape.LIST


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("10s", 10.0), ("1.5s", 1.5), ("15m", 900.0), ("1h", 3600.0), ("1d", 86400.0), ("0s", 0.0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration("0s", "1d").parse(text, BASE) == seconds


@pytest.mark.parametrize("value", [10, 1.5, True, None, "", "10", "10 s", "-1s", "1e3s", "10S", "١s", ["10s"], "25h"])
def test_what_is_no_duration_within_bounds(value: object) -> None:
    with pytest.raises(ValueError, match="write"):
        duration("0s", "1d").parse(value, BASE)


@pytest.mark.parametrize(
    ("value", "number"), [("64KiB", 65536), (65536, 65536), ("7", 7), ("7B", 7), ("2MiB", 2097152)]
)
def test_sizes(value: object, number: int) -> None:
    assert size("1B", "1GiB").parse(value, BASE) == number


@pytest.mark.parametrize("value", ["64KB", "64k", -1, 1.0, True, None, "1.5MiB", 0, "2GiB"])
def test_what_is_no_size_within_bounds(value: object) -> None:
    with pytest.raises(ValueError, match="write"):
        size("1B", "1GiB").parse(value, BASE)


@pytest.mark.parametrize("value", [True, 1.0, "1.0", "", "-1", -1, 11, "11", None, "٣"])
def test_what_is_no_count_within_bounds(value: object) -> None:
    with pytest.raises(ValueError, match="write"):
        count(0, 10).parse(value, BASE)


def test_switches_and_choices() -> None:
    assert [FLAG.parse(value, BASE) for value in (True, "true", False, "false")] == [True, True, False, False]
    with pytest.raises(ValueError, match="write true or false"):
        FLAG.parse("yes", BASE)
    assert choice("a", "b").parse("b", BASE) == "b"
    with pytest.raises(ValueError, match="'c' is not one of: a, b"):
        choice("a", "b").parse("c", BASE)


def test_what_may_be_off() -> None:
    kind = or_off(count(1, 10))
    assert (kind.parse("off", BASE), kind.parse(3, BASE), kind.bounds) == (None, 3, "1 to 10, or `off`")
    with pytest.raises(ValueError, match="out of bounds"):
        kind.parse(0, BASE)


def test_a_home_folder_is_not_guessed() -> None:
    with pytest.raises(ValueError, match="~ is not expanded"):
        PATH.parse("~/key", BASE)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_document_gives_a_value_or_faults(document: object) -> None:
    value, _ = read(document)
    assert isinstance(value, Example)
