"""Runs in a sandbox: ends its deputy, comes to sandboxd in the deputy's place, and says what no deputy says.

`python -c SOURCE KIND...`: one kind after the other. Prints `played KIND` for each, and stays with the last one.
"""

import os
import signal
import socket
import struct
import sys
import time
from contextlib import suppress

NAME = "\0sallyport-deputy"
BINARY, TEXT = 2, 1
READY = b'{"type": "ready"}'
STATUS = b'{"type": "setup.status", "revision": %d, "state": "%s", "steps": []}'


def frame(opcode: int, payload: bytes) -> bytes:
    """Write a message of a WebSocket client, masked by zeros."""
    length = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + struct.pack(">H", len(payload))
    return bytes([0x80 | opcode]) + length + bytes(4) + payload


def syn(stream: int) -> bytes:
    """Write a yamux frame that opens a stream."""
    return struct.pack(">BBHII", 0, 1, 1, stream, 0)


KINDS = {
    "garbage": [os.urandom(1 << 20)],
    "unmasked": [bytes([0x82, 12]) + syn(1)],
    "endless head": [bytes([0x82, 0xFF]) + b"\xff" * 8],
    "half a frame": [frame(TEXT, READY)[:7]],
    "not ready": [frame(TEXT, STATUS % (1, b"applied"))],
    "twice ready": [frame(TEXT, READY) * 2],
    "streams": [frame(TEXT, READY), *(frame(BINARY, syn(2 * n + 1)) for n in range(5000))],
    "statuses": [frame(TEXT, READY), *(frame(TEXT, STATUS % (n + 1, b"applying")) for n in range(20_000))],
    "deep json": [frame(TEXT, READY), frame(TEXT, b"[" * 60_000)],
    "odd status": [frame(TEXT, READY), frame(TEXT, STATUS % (1, b"applied\\ud800"))],
    "a descriptor": [],
    "hang": [frame(TEXT, READY)],
}


def deputies() -> list[int]:
    """Find the deputy, as it is in a local sandbox and in a container."""
    found = []
    for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))):
        with suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
            # Not this source, which is on a command line as well.
            if pid > 1 and {b"sallyport_cli.cell", b"sandboxd.deputy.program"} & {*file.read().split(b"\0")}:
                found.append(pid)
    return found


def take_the_place() -> socket.socket:
    """Connect once the deputy is gone, and stay."""
    while True:
        for pid in deputies():
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        taken = socket.socket(socket.AF_UNIX)
        with suppress(OSError):
            taken.connect(NAME)
            taken.settimeout(3)
            # Whoever is let in hears a ping at once; whoever is not, the end.
            if taken.recv(1):
                return taken
        taken.close()
        time.sleep(0.05)


def play(kind: str) -> socket.socket:
    """Say it, and go on until nobody listens any more."""
    taken = take_the_place()
    with suppress(OSError):
        if kind == "a descriptor":
            socket.send_fds(taken, [frame(TEXT, READY)], [0, 1, 2])
        for piece in KINDS[kind]:
            taken.sendall(piece)
    return taken


def answer_pings(taken: socket.socket) -> None:
    """Seem alive, and do nothing that is asked: each ping comes in a message of its own."""
    taken.settimeout(None)
    while data := taken.recv(65536):
        at = data.find(bytes([0x82, 12, 0, 2, 0, 1]))
        if at >= 0:
            taken.sendall(frame(BINARY, struct.pack(">BBHI", 0, 2, 2, 0) + data[at + 10 : at + 14]))


if __name__ == "__main__":
    for kind in sys.argv[1:]:
        held = play(kind)
        print(f"played {kind}", flush=True)
        if kind != sys.argv[-1]:
            held.close()
    answer_pings(held)
    time.sleep(1000)
