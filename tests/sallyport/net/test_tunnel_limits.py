"""The limits are those of docs/tunnel-protocol.md."""

import pathlib

from sallyport.net.tunnel_limits import CLOSE_SECONDS, DEFAULT_LIMITS, MAX_UNREAD_BYTES, ORPHAN_SECONDS
from sallyport.wire.websocket import MAX_MESSAGE_BYTES
from sallyport.wire.yamux.frames import INITIAL_WINDOW_BYTES, MAX_DATA_BYTES_TAKEN, MAX_FRAME_BYTES_SENT
from sallyport.wire.yamux.session import MAX_ANSWERS

KIB, MIB = 1024, 1024 * 1024
DOCUMENT = pathlib.Path(__file__).resolve().parents[3] / "docs/tunnel-protocol.md"


def test_the_document_says_the_same() -> None:
    text = " ".join(DOCUMENT.read_text(encoding="utf-8").split())
    for said in (
        f"both sides' together | {DEFAULT_LIMITS.max_streams:,} |",
        f"ACK not sent yet | {DEFAULT_LIMITS.accept_backlog} |",
        f"a window of {INITIAL_WINDOW_BYTES // KIB} KiB each way",
        f"up to {DEFAULT_LIMITS.max_window_bytes // MIB} MiB",
        f"A message has at most {MAX_MESSAGE_BYTES // KIB} KiB",
        f"Our data frames have at most {MAX_FRAME_BYTES_SENT // KIB} KiB",
        f"a data frame that is taken | {MAX_DATA_BYTES_TAKEN // KIB} KiB",
        f"that the peer does not read | {MAX_ANSWERS // 1000},{MAX_ANSWERS % 1000:03} |",
        f"that the peer does not read | {MAX_UNREAD_BYTES // MIB} MiB |",
        f"leaves open | {ORPHAN_SECONDS:.0f} s |",
        f"Ping every {DEFAULT_LIMITS.ping_seconds:.0f} s; a peer that leaves one unanswered for "
        f"{DEFAULT_LIMITS.dead_seconds:.0f} s is dead",
        f"after {CLOSE_SECONDS:.0f} s the connection is cut",
    ):
        assert said in text, said
