"""YAML, strictly: what every reader would understand alike, and nothing quoted in a fault."""

from pathlib import Path

import pytest

from sallyport.net.yaml_file import MAX_YAML_BYTES, read_yaml
from sallyport.settings import ConfigError


def written(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "gateway.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def fault(path: Path) -> str:
    with pytest.raises(ConfigError) as refused:
        read_yaml(path)
    [issue] = refused.value.issues
    assert issue.pointer == str(path)
    return issue.message


def test_words_of_yaml_1_1_stay_words(tmp_path: Path) -> None:
    content = "audit: {path: off}\na: yes\nb: 1:30\nc: true\nd: 12\ne: 1.5\nf: ~\ng: 2026-01-01\nh: 0x1F\ni:\n"
    assert read_yaml(written(tmp_path, content)) == {
        "audit": {"path": "off"},
        "a": "yes",
        "b": "1:30",
        "c": True,
        "d": 12,
        "e": 1.5,
        "f": None,
        "g": "2026-01-01",
        "h": "0x1F",
        "i": None,
    }


def test_numbers_are_decimal_whatever_they_begin_with(tmp_path: Path) -> None:
    assert read_yaml(written(tmp_path, "a: 08\nb: 010\nc: -1\nd: +2\ne: !!str 1\n")) == {
        "a": 8,
        "b": 10,
        "c": -1,
        "d": 2,
        "e": "1",
    }


def test_anchors_and_merges_work(tmp_path: Path) -> None:
    content = "a: &x {k: 1s}\nb: {<<: *x, l: 2s}\n"
    assert read_yaml(written(tmp_path, content)) == {"a": {"k": "1s"}, "b": {"k": "1s", "l": "2s"}}


@pytest.mark.parametrize("content", ["", "# only a comment\n", "---\n"])
def test_an_empty_file_is_an_empty_document(tmp_path: Path, content: str) -> None:
    assert read_yaml(written(tmp_path, content)) == {}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: 'a' stands twice"),
        ("3128: x\n", "line 1: a key must be text; quote it"),
        ("a: [1\n", "line 2: "),
        ("a: !!python/object/apply:os.system [canary]\n", "could not determine a constructor"),
        ("a: !!timestamp 2001-99-99\n", "could not determine a constructor"),
        ("a: !!bool canary\n", "line 1: not a value of its tag"),
        ("a: !!int canary\n", "line 1: not a value of its tag"),
        ("a: !!int 0x1F\n", "line 1: not a value of its tag"),
        ("a: !!float canary\n", "line 1: not a value of its tag"),
        ("a: " + "1" * 5000, "line 1: not a value of its tag"),
        ("a: " + "1" * 400 + ".0", "line 1: not a value of its tag"),
        ("a: !!map canary\n", "line 1: not a value of its tag"),
        ("[" * 20_000, "nested too deeply"),
        (b"a: \xff\xfe\n", "not text in UTF-8"),
        ("- a\n- b\n", "must hold a mapping"),
        ("canary", "must hold a mapping"),
        ("credentials:\n  con_1: {value: canary\n", "line 3: "),
        (b"#" * (MAX_YAML_BYTES + 1), "is larger than 1 MiB"),
    ],
)
def test_what_is_refused_and_where(tmp_path: Path, content: str | bytes, told: str) -> None:
    message = fault(written(tmp_path, content))
    assert told in message
    assert "canary" not in message


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert fault(tmp_path / "none.yaml") == (
        "cannot be read (No such file or directory); correct the path or its permissions"
    )
    assert "Is a directory" in fault(tmp_path)
