"""Logs on a real disk: bounded, quotable, and never in the way."""

from pathlib import Path

from sandboxd.setup.process_log import MAX_LINE_CHARACTERS, ProcessLog


def test_it_is_turned_over_and_stays_bounded(tmp_path: Path) -> None:
    log = ProcessLog(tmp_path / "a/b.log", max_bytes=100)
    for number in range(100):
        log.write(b"%09d\n" % number)
    log.close()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["b.log", "b.log.1"]
    assert all(path.stat().st_size <= 110 for path in (tmp_path / "a").iterdir())
    assert log.tail(10) == b"%09d\n" % 99


def test_it_goes_on_where_an_earlier_one_stopped(tmp_path: Path) -> None:
    for line in (b"one\n", b"two\n"):
        log = ProcessLog(tmp_path / "x.log", max_bytes=6)
        log.write(line)
        log.close()
    assert log.tail(100) == b"one\ntwo\n"
    log.write(b"three\n")
    assert log.tail(100) == b"three\n"
    log.close()


def test_nothing_is_made_before_the_first_byte(tmp_path: Path) -> None:
    log = ProcessLog(tmp_path / "x.log")
    assert (log.tail(10), log.last_line(), repr(log)) == (b"", "", "<ProcessLog x.log: closed, 0 bytes>")
    assert not log.path.exists()


def test_the_last_line_is_the_program_s_printable_and_short(tmp_path: Path) -> None:
    log = ProcessLog(tmp_path / "x.log")
    log.write(b"first\n\x1b[31mred\xff\x00\n\n   \n")
    log.note("exited with code 1")
    assert log.last_line() == "[31mred\N{REPLACEMENT CHARACTER}"
    log.write(b"x" * 10_000)
    assert log.last_line() == "x" * MAX_LINE_CHARACTERS
    log.close()


def test_a_place_that_cannot_be_written_to_costs_lines_only(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    log = ProcessLog(tmp_path / "plain/x.log")
    log.write(b"lost\n")
    log.note("lost")
    log.close()
