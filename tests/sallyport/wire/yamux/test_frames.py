"""The header against the published specification, byte by byte and by hand."""

import pytest

from sallyport.wire.yamux.frames import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    HEADER_BYTES,
    INITIAL_WINDOW_BYTES,
    INTERNAL_ERROR,
    MAX_DATA_BYTES_SENT,
    NORMAL,
    PING,
    PROTOCOL_ERROR,
    RST,
    SYN,
    WINDOW_UPDATE,
    frame_header,
    read_header,
)


@pytest.mark.parametrize(
    ("header", "spec"),
    [
        # version, type, flags, stream id, length: network order
        (frame_header(DATA, SYN, 1, 5), "00 00 0001 00000001 00000005"),
        (frame_header(DATA, FIN, 2, 0), "00 00 0004 00000002 00000000"),
        (frame_header(WINDOW_UPDATE, ACK, 3, 262144), "00 01 0002 00000003 00040000"),
        (frame_header(WINDOW_UPDATE, RST, 0xFFFFFFFF, 0), "00 01 0008 ffffffff 00000000"),
        (frame_header(PING, SYN, 0, 0xDEADBEEF), "00 02 0001 00000000 deadbeef"),
        (frame_header(PING, ACK, 0, 0xDEADBEEF), "00 02 0002 00000000 deadbeef"),
        (frame_header(GO_AWAY, 0, 0, PROTOCOL_ERROR), "00 03 0000 00000000 00000001"),
    ],
)
def test_header_bytes_are_those_of_the_specification(header: bytes, spec: str) -> None:
    assert header == bytes.fromhex(spec)
    assert frame_header(*read_header(header)) == header


def test_another_version_reads_as_an_unknown_type() -> None:
    kind, *_ = read_header(bytes.fromhex("01 00 0001 00000001 00000005"))
    assert kind not in (DATA, WINDOW_UPDATE, PING, GO_AWAY)


def test_numbers_of_the_specification() -> None:
    assert (HEADER_BYTES, INITIAL_WINDOW_BYTES) == (12, 256 * 1024)
    assert (SYN, ACK, FIN, RST) == (1, 2, 4, 8)
    assert (NORMAL, PROTOCOL_ERROR, INTERNAL_ERROR) == (0, 1, 2)


def test_four_full_frames_fill_a_message() -> None:
    assert 4 * (HEADER_BYTES + MAX_DATA_BYTES_SENT) == 64 * 1024
