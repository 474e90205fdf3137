"""The audit log: every record a line; no loss without a count; never in the way."""

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.audit import BATCH_RECORDS, AuditError, AuditLog, Outcome, _Sink
from gateway.audit_line import FIELDS
from gateway.metrics import OUTCOMES
from gateway.setting_kinds import AUDIT_STDOUT

ROOT = Path(__file__).resolve().parent.parent.parent
WHEN = 1_800_000_000.1239


def record(**values: object) -> tuple[object, ...]:
    assert values.keys() <= set(FIELDS)
    return tuple(values.get(name) for name in FIELDS)


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]


def started(path: Path | str, max_records: int = 1000) -> AuditLog:
    audit = AuditLog(str(path), max_records)
    audit.start()
    return audit


def test_every_record_is_written_by_the_end(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    audit = started(path)
    for number in range(3 * BATCH_RECORDS + 1):
        audit.record(record(requestId=f"r{number}", time=WHEN + number))
    audit.close()
    assert [document["requestId"] for document in lines(path)] == [f"r{n}" for n in range(3 * BATCH_RECORDS + 1)]
    assert audit.dropped == 0
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_unreadable_record_costs_only_itself(tmp_path: Path) -> None:
    audit = started(tmp_path / "audit.log")
    with capture_logs():
        for entry in (record(requestId="a"), ("wrong",), record(requestId="b")):
            audit.record(entry)
        audit.close()
    assert [document["requestId"] for document in lines(tmp_path / "audit.log")] == ["a", "b"]
    assert audit.dropped == 1


def test_more_than_there_is_room_for_is_counted() -> None:
    audit = AuditLog("-", 256)
    for _ in range(300):
        audit.record(record(requestId="r"))
    assert audit.dropped == 44
    assert audit.waiting == 256
    assert repr(audit) == "<AuditLog -: 256 pending, 44 dropped>"


def test_off_records_nothing_and_counts_nothing() -> None:
    audit = AuditLog("off", 256)
    audit.start()
    audit.record(record(requestId="r"))
    audit.close()
    assert audit.dropped == 0
    assert "0 pending" in repr(audit)


def test_records_after_the_end_are_dropped_and_counted(tmp_path: Path) -> None:
    audit = started(tmp_path / "audit.log")
    audit.close()
    audit.record(record(requestId="late"))
    assert audit.dropped == 1
    assert lines(tmp_path / "audit.log") == []


@pytest.mark.parametrize(("name", "told"), [("none/audit.log", "No such file or directory"), (".", "Is a directory")])
def test_a_path_that_cannot_be_opened_says_what_to_do(tmp_path: Path, name: str, told: str) -> None:
    with pytest.raises(AuditError, match=told) as refused:
        started(tmp_path / name)
    assert "audit.path" in str(refused.value)
    assert "or write `-` or `off`" in str(refused.value)


def test_a_fifo_without_a_reader_does_not_hang_the_start(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(AuditError, match="No such device"):
        started(tmp_path / "fifo")


def test_reopening_goes_on_in_a_new_file_without_loss(tmp_path: Path) -> None:
    path, rotated = tmp_path / "audit.log", tmp_path / "audit.log.1"
    audit = started(path)
    audit.record(record(requestId="before"))
    path.rename(rotated)
    audit.reopen()
    wait_for(path.exists)
    audit.record(record(requestId="after"))
    audit.close()
    assert lines(rotated) == [{"requestId": "before"}]
    assert lines(path) == [{"requestId": "after"}]


def test_a_reopening_that_fails_keeps_the_old_file(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    sink = _Sink(str(folder / "audit.log"))
    sink.open()
    (tmp_path / "logs").rename(tmp_path / "moved")
    with capture_logs() as logs:
        sink.reopen()
        sink.write([b"a\n"])
    sink.close()
    assert [event["event"] for event in logs] == ["audit_reopen_failed"]
    assert (tmp_path / "moved/audit.log").read_bytes() == b"a\n"


def test_t5_a_full_disk_drops_and_counts_and_tells_once(tmp_path: Path) -> None:
    with capture_logs() as logs:
        audit = started("/dev/full", 256)
        for _ in range(200):
            audit.record(record(requestId="r"))
        audit.close()
        assert audit.dropped == 200
    assert [event["event"] for event in logs] == ["audit_write_failed"]
    assert logs[0]["reason"] == "No space left on device"


def test_lines_that_could_not_be_written_are_written_when_there_is_room_again() -> None:
    reading, writing = os.pipe()
    sink = _Sink("pipe")
    sink._descriptor = os.open("/dev/full", os.O_WRONLY)
    with capture_logs() as logs:
        sink.write([b"a\n", b"b\n"])
        assert (sink.ready, sink.held) == (False, 2)
        sink.retry()
        assert sink.held == 2
        os.close(sink._descriptor)
        sink._descriptor = writing
        sink.retry()
        sink.write([b"c\n"])
        assert sink.ready
    sink.close()
    assert os.read(reading, 100) == b"a\nb\nc\n"
    os.close(reading)
    assert [event["event"] for event in logs] == ["audit_write_failed", "audit_write_recovered"]


def test_a_line_torn_by_an_error_is_written_again_whole_on_a_line_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = _Sink(str(tmp_path / "audit.log"))
    sink.open()
    write = os.write

    def tear(descriptor: int, content: memoryview) -> int:
        # The disk takes three bytes and is full: what a file system at its limit does.
        if len(content) > 3:
            return write(descriptor, content[:3])
        raise OSError(28, "No space left on device")

    with capture_logs(), monkeypatch.context() as full:
        full.setattr(os, "write", tear)
        sink.write([b"1\n", b"22\n"])
    with capture_logs():
        sink.retry()
    sink.close()
    assert (tmp_path / "audit.log").read_bytes() == b"1\n2\n22\n"


def test_a_reader_that_left_is_no_error_to_anyone(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    sink = _Sink("pipe")
    sink._descriptor = writing
    with capture_logs() as logs:
        sink.write([b"a\n"])
    sink.close()
    assert logs[0]["reason"] == "Broken pipe"
    assert sink.held == 1


def test_a_standard_output_that_does_not_block_is_waited_for() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    sink = _Sink("pipe")
    sink._descriptor = writing
    content = [b"x" * 1023 + b"\n"] * 1024
    received = bytearray()

    def drain() -> None:
        while chunk := os.read(reading, 65536):
            received.extend(chunk)

    reader = threading.Thread(target=drain)
    reader.start()
    sink.write(content)
    sink.close()
    reader.join()
    os.close(reading)
    assert received == b"".join(content)


def test_lines_of_two_processes_never_mix(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    sinks = [_Sink(AUDIT_STDOUT, tmp_path / "lock") for _ in range(2)]
    batches = [[letter * 9000 + b"\n"] * 64 for letter in (b"a", b"b")]
    for sink in sinks:
        sink.open()
        sink._descriptor = writing

    def write(sink: _Sink, batch: list[bytes]) -> None:
        for _ in range(8):
            sink.write(batch)
        sink.close()

    threads = [threading.Thread(target=write, args=each) for each in zip(sinks, batches, strict=True)]
    for thread in threads:
        thread.start()
    with open(reading, "rb") as pipe:
        found = [pipe.readline() for _ in range(2 * 8 * 64)]
    for thread in threads:
        thread.join()
    os.close(writing)
    assert all(line in (batches[0][0], batches[1][0]) for line in found)


def test_standard_output_is_a_path_too(capfd: pytest.CaptureFixture[str]) -> None:
    audit = started("-")
    audit.record(record(requestId="r1"))
    audit.reopen()
    audit.close()
    assert capfd.readouterr().out == '{"requestId":"r1"}\n'


def test_metrics_count_the_same_outcomes() -> None:
    assert tuple(outcome.value for outcome in Outcome) == OUTCOMES


def wait_for(happened: Callable[[], bool]) -> None:
    for _ in range(1000):
        if happened():
            return
        threading.Event().wait(0.005)
    pytest.fail("it did not happen within 5 s")
