"""Transports in memory, and their other ends."""

from benchmarks.wires import PlainEnd, Wire


async def test_a_wire_keeps_what_was_written_last() -> None:
    wire = Wire()
    wire.write(b"a")
    wire.write(b"b")
    await wire.has_written.wait()
    assert wire.written == b"b"


async def test_what_is_taken_is_gone_and_the_next_piece_is_the_first() -> None:
    wire = Wire()
    wire.write(b"a")
    assert wire.take() == b"a"
    assert wire.written == b""
    assert not wire.has_written.is_set()
    wire.write(b"b")
    assert wire.has_written.is_set()


def test_an_end_without_tls_leaves_bytes_as_they_are() -> None:
    end = PlainEnd()
    assert end.opened(end.sealed(b"a")) == b"a"
