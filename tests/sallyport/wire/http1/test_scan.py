"""scan.py and its twin in C (_scan.c), which is built here where there is a C compiler, whatever is installed."""

import importlib.util
import pathlib
import shutil
import subprocess
import sysconfig
import time
from types import ModuleType

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1 import scan
from tests.support.figures import InTime

SOURCE = pathlib.Path(__file__).resolve().parents[4] / "sallyport" / "wire" / "http1" / "_scan.c"
HEADERS = pathlib.Path(sysconfig.get_paths()["include"])
MAX_LINES = 128  # of _scan.c


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    compiler = shutil.which("cc")
    if compiler is None or not (HEADERS / "Python.h").exists():
        pytest.skip("no C compiler, or no Python.h")
    built = tmp_path_factory.mktemp("scan") / f"_scan{sysconfig.get_config_var('EXT_SUFFIX')}"
    strict = ["-Wall", "-Wextra", "-Werror", "-O3", "-fPIC", "-shared", f"-I{HEADERS}"]
    subprocess.run([compiler, *strict, str(SOURCE), "-o", str(built)], check=True)
    spec = importlib.util.spec_from_file_location("_scan", built)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- split_head -------------------------------------------------------------------------------------------------------

PLAIN = {
    b"GET / HTTP/1.1": (b"GET / HTTP/1.1", b"", []),
    b"": (b"", b"", []),
    b"a\r\nB:": (b"a", b"B:", [b"B:"]),
    b"a\r\n:": (b"a", b":", [b":"]),
    b"a:b\r\nHost: x:1\r\nX-Y:\t\x80\xff ": (b"a:b", b"Host:X-Y:", [b"Host: x:1", b"X-Y:\t\x80\xff "]),
    b"\r\nA: b\r\na: b": (b"", b"A:a:", [b"A: b", b"a: b"]),
}
FAULTY = [b"a\rb", b"a\nb", b"a\r", b"a\n", b"\r", b"\n", b"a\r\r\nB: c", b"a\r\n\rB: c", b"a\n\r\nB: c"]
FAULTY += [b"a\r\nB: %c" % byte for byte in (*range(9), *range(10, 32), 127)]
NAMELESS = [b"a\r\nb", b"a\r\n", b"a\r\nB: c\r\n", b"a\r\n\r\nB: c", b"a\r\n b: c\r\nd"]


@pytest.mark.parametrize("head", PLAIN)
def test_a_plain_head_is_split(compiled: ModuleType, head: bytes) -> None:
    first, names, lines = scan.split_head(head)
    assert (first, names, list(lines)) == PLAIN[head]
    assert compiled.split_head(head) == (first, names, tuple(lines))


@pytest.mark.parametrize("head", FAULTY)
def test_a_control_byte_is_refused(compiled: ModuleType, head: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="control byte or bare line end in the head"):
        scan.split_head(head)
    assert compiled.split_head(head) is None


@pytest.mark.parametrize("head", NAMELESS)
def test_a_line_without_a_colon_is_told_from_every_name(compiled: ModuleType, head: bytes) -> None:
    assert scan.NAMELESS in scan.split_head(head)[1]
    assert compiled.split_head(head) is None


def test_heads_of_many_lines_are_left_to_python(compiled: ModuleType) -> None:
    head = b"a" + b"\r\nB: c" * (MAX_LINES - 1)
    assert compiled.split_head(head) == (b"a", b"B:" * (MAX_LINES - 1), (b"B: c",) * (MAX_LINES - 1))
    assert compiled.split_head(head + b"\r\nB: c") is None
    assert len(scan.split_head(head + b"\r\nB: c")[2]) == MAX_LINES


def test_long_lines_are_split_like_short_ones(compiled: ModuleType) -> None:
    for length in (*range(70), 4096, 70_000):
        for byte in b"a \t:\x7e\x80\x00\x1f\x7f\r\n":
            head = b"G\r\n" + b"x" * length + b":" + b"y" * length + bytes([byte])
            assert compiled.split_head(head) == (split(head) if byte not in b"\x00\x1f\x7f\r\n" else None)


def split(head: bytes) -> tuple[bytes, bytes, tuple[bytes, ...]] | None:
    try:
        first, names, lines = scan.split_head(head)
    except RemoteProtocolError:
        return None
    return None if scan.NAMELESS in names else (first, names, tuple(lines))


PIECES = st.sampled_from([b"\r\n", b"\r", b"\n", b":", b" ", b"\t", b"Host", b"x-y", b"\x00", b"\x7f", b"\x80", b"_"])
HEADS = st.lists(PIECES | st.just(b"\r\nA: b") | st.binary(max_size=4), max_size=24).map(b"".join)


@given(HEADS | st.binary(max_size=80))
@example(b"\r\n" * MAX_LINES)
def test_every_head_is_split_alike(compiled: ModuleType, head: bytes) -> None:
    assert compiled.split_head(head) == split(head)


@given(st.lists(st.sampled_from([b"A: 1", b"A", b":", b"", b"A:A:", b"B:"]), max_size=4), st.data())
def test_the_names_run_together_belong_to_one_list_of_names(lines: list[bytes], data: st.DataObject) -> None:
    other = data.draw(st.lists(st.sampled_from([b"A: 2", b"A", b":", b"", b"A:", b"B:C"]), max_size=4))
    keys = [scan.split_head(b"\r\n".join([b"", *rows]))[1] for rows in (lines, other)]
    names = [[row[: row.find(b":") + 1] for row in rows] for rows in (lines, other)]
    assert (keys[0] == keys[1]) == (names[0] == names[1])


# --- field_value ------------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([b":", b" ", b"\t", b"a", b"\x80", b"\r\n", b"\x0b"]), max_size=9).map(b"".join))
@example(b"")
@example(b":")
@example(b"a: \t ")
def test_every_value_is_read_alike(compiled: ModuleType, line: bytes) -> None:
    assert compiled.field_value(line) == line.partition(b":")[2].strip(b" \t") == scan._field_value(line)


# --- head_end ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b"a", b"\r\n\r\n"]), max_size=9).map(b"".join))
@example(b"")
@example(b"\r\n\r")
@example(b"\r\r\n\r\n")
@example(b"a" * 5000 + b"\r\n\r\n")
def test_every_end_is_found_alike(compiled: ModuleType, data: bytes) -> None:
    end = data.find(b"\r\n\r\n")
    lines = data.count(b"\r\n", 0, max(end, 0))
    assert compiled.head_end(data, lines) == end == scan._head_end(data, lines)
    if lines:
        assert compiled.head_end(data, lines - 1) == scan.TOO_MANY_LINES == scan._head_end(data, lines - 1)


# --- cut_request_line -------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([b" ", b"\t", b"GET", b"/", b"\x7f", b"\x80", b"HTTP/1.1"]), max_size=9).map(b"".join))
@example(b"GET / HTTP/1.1")
@example(b"  ")
@example(b" / ")
@example(b"\xff / \xff")
def test_a_request_line_is_cut_where_nothing_is_wrong_with_it(compiled: ModuleType, line: bytes) -> None:
    parts = line.split(b" ")
    is_plain = len(parts) == 3 and parts[1] != b"" and parts[1].isascii() and b"\t" not in parts[1]
    assert compiled.cut_request_line(line) == (tuple(parts) if is_plain else None)
    assert scan._cut_request_line(line) is None


# --- join_lines -------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=9), st.lists(st.binary(max_size=9), max_size=9), st.binary(max_size=9))
def test_every_head_is_joined_alike(compiled: ModuleType, start: bytes, lines: list[bytes], end: bytes) -> None:
    expected = b"\r\n".join([start, *lines, end])
    assert compiled.join_lines(start, lines, end) == compiled.join_lines(start, tuple(lines), end) == expected
    assert scan._join_lines(start, lines, end) == expected


def test_only_bytes_are_joined(compiled: ModuleType) -> None:
    class Bytes(bytes):
        pass

    class List(list[bytes]):
        pass

    wrongs: list[object] = [None, "a", bytearray(b"a"), memoryview(b"a"), 1, Bytes(b"a"), List([b"a"]), iter([b"a"])]
    for wrong in wrongs:
        cases: list[tuple[object, ...]] = [
            (wrong, [], b""),
            (b"", [], wrong),
            (b"", wrong, b""),
            (b"", [b"a", wrong], b""),
        ]
        for arguments in cases:
            with pytest.raises(TypeError):
                compiled.join_lines(*arguments)
    with pytest.raises(TypeError):
        compiled.join_lines(b"", [])


# --- holds_any --------------------------------------------------------------------------------------------------------

PATTERNS = st.lists(st.text("ab", min_size=4, max_size=12).map(str.encode), max_size=5).map(tuple)


@given(PATTERNS, st.text("abc", max_size=60).map(str.encode))
@example((), b"")
@example((b"abab",), b"abab")
@example((b"ab" * 400, b"ba" * 300), b"a" + b"ab" * 399 + b"a" + b"ba" * 300)
def test_patterns_are_found_alike(compiled: ModuleType, patterns: tuple[bytes, ...], data: bytes) -> None:
    expected = any(pattern in data for pattern in patterns)
    assert compiled.holds_any(data, patterns, compiled.scan_table(patterns)) == expected
    assert scan._holds_any(data, patterns, scan.find_room(patterns)) == expected


@given(st.lists(st.binary(min_size=8, max_size=40), min_size=1, max_size=6).map(tuple), st.data())
def test_a_pattern_is_found_wherever_it_stands(
    compiled: ModuleType, patterns: tuple[bytes, ...], data: st.DataObject
) -> None:
    before, after = data.draw(st.binary(max_size=300)), data.draw(st.binary(max_size=20))
    whole = before + data.draw(st.sampled_from(patterns)) + after
    table = compiled.scan_table(patterns)
    assert compiled.holds_any(whole, patterns, table)
    for short in (before + after, whole[: len(before) + 7], whole[-len(after) - 7 :]):
        assert compiled.holds_any(short, patterns, table) == scan._holds_any(short, patterns, b"")


@pytest.mark.parametrize("after", [b"", b"!", b"!" + b"a" * 3000])
def test_patterns_are_found_alike_in_what_is_much_like_them(compiled: ModuleType, after: bytes) -> None:
    # More is compared here than looks at every place may, so the whole is sought once more in another way.
    patterns = (b"a" * 3000 + b"!" + b"a" * 3000, b"a" * 2999 + b"?" + b"a" * 9)
    table = compiled.scan_table(patterns)
    for data in (b"a" * 20_000 + after, b"-" + b"a" * 12_000 + b"-" + after, b"a" * 9000 + b"?" + b"a" * 8 + after):
        expected = any(pattern in data for pattern in patterns)
        assert compiled.holds_any(data, patterns, table) == expected
        assert scan._holds_any(data, patterns, scan.find_room(patterns)) == expected


@pytest.mark.parametrize("twin", ["C", "Python"])
def test_what_is_much_like_a_pattern_is_searched_in_linear_time(
    compiled: ModuleType, twin: str, in_time: InTime
) -> None:
    def seconds(size: int) -> float:
        patterns = (b"a" * size + b"!" + b"a" * size,)
        data = b"a" * (2 * size + size // 4)
        table = compiled.scan_table(patterns) if twin == "C" else scan.find_room(patterns)
        holds_any = compiled.holds_any if twin == "C" else scan._holds_any
        tries = []
        for _ in range(3):
            began_at = time.process_time()
            assert not holds_any(data, patterns, table)
            tries.append(time.process_time() - began_at)
        return min(tries)

    # Squares would be four times as much.
    once, twice = seconds(20_000), seconds(40_000)
    in_time(f"twice of what is much like a pattern, in {twin}", twice, 3 * once + 0.001)


def test_a_long_pattern_is_sought_with_room_behind_the_data() -> None:
    # Over what `find` wants to go over to its linear way: 2000 places, 2500 bytes.
    for least in (scan.LONG_PATTERN, scan.LONG_PATTERN + 1):
        room = scan.find_room((b"abab", b"a" * least))
        assert len(room) > 2000
        assert scan.LONG_PATTERN + len(room) > 2500
    assert scan.find_room((b"abab", b"a" * (scan.LONG_PATTERN - 1))) == b""
    assert scan.find_room(()) == b""


@pytest.mark.parametrize("pattern", [bytes(scan.LONG_PATTERN), b"a" * scan.LONG_PATTERN + bytes(8)])
def test_what_ends_in_the_room_is_no_match(pattern: bytes) -> None:
    room = scan.find_room((pattern,))
    assert not scan._holds_any(b"-" + pattern[:-1], (pattern,), room)
    assert not scan._holds_any(pattern[1:], (pattern,), room)
    assert not scan._holds_any(b"", (pattern,), room)
    assert scan._holds_any(b"-" + pattern, (pattern,), room)


# --- what is none of it -----------------------------------------------------------------------------------------------


def test_other_types_are_refused(compiled: ModuleType) -> None:
    table, cut = compiled.scan_table((b"abab",)), compiled.cut_request_line
    for wrong in (None, "a", bytearray(b"a"), memoryview(b"a"), 1):
        for call in (compiled.split_head, compiled.field_value, compiled.scan_table, compiled.head_end, cut):
            with pytest.raises(TypeError):
                call(wrong)
        for arguments in (
            (wrong, (b"abab",), table),
            (b"", wrong, table),
            (b"", (wrong,), table),
            (b"", (b"abab",), wrong),
        ):
            with pytest.raises(TypeError):
                compiled.holds_any(*arguments)


def test_a_table_that_is_not_the_patterns_own_reads_nothing_outside(compiled: ModuleType) -> None:
    table = compiled.scan_table((b"abab",))
    for wrong in (b"", table[:-1], table + b"\0"):
        with pytest.raises(TypeError):
            compiled.holds_any(b"abab", (b"abab",), wrong)
    for wrong in (b"\xff" * len(table), bytes(len(table))):
        compiled.holds_any(b"x" * 1000, (b"abab" * 200,), wrong)
    for pattern in (b"", b"aba"):
        with pytest.raises(TypeError):
            compiled.holds_any(b"abab", (pattern,), table)
        with pytest.raises(TypeError):
            compiled.scan_table((b"abab", pattern))
    with pytest.raises(TypeError):
        compiled.holds_any(b"abab", (b"abab",))
