"""A program in the place of a serving process: it starts at once, notes what it is ordered, and misbehaves as told.

Run as `python serving_stub.py FOLDER --config FILE --serving-process TEXT`. In FOLDER, N being its number: `orders`
gets a line for each request; `reports-N` holds lines to report; `fails-N` an exit status; `refuses` a path it answers
with 500; `hangs` a path it never answers; `silent` keeps it from saying that it is there.
"""

import json
import os
import signal
import socketserver
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import ClassVar

FOLDER = Path(sys.argv[1]) if len(sys.argv) > 2 else Path()


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    number: ClassVar[int] = 0

    def _read_body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, status: int, body: bytes = b"", kind: str = "application/json") -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body)

    def _any(self) -> None:
        body = self._read_body()
        if self.path == "/internal/reports":
            self._report()
            return
        with (FOLDER / "orders").open("a") as file:
            file.write(
                f"{self.number} {os.getpid()} {self.command} {self.path} {body.decode('utf-8', 'replace')[:200]}\n"
            )
        if _text("hangs") and _text("hangs") in self.path:
            time.sleep(60)
        elif _text("refuses") and _text("refuses") in self.path:
            self._answer(500)
        elif self.path == "/metrics":
            self._answer(200, _text(f"metrics-{self.number}").encode(), "text/plain")
        elif self.path == "/v1/sandboxes":
            self._answer(200, (_text(f"sandboxes-{self.number}") or '{"items": []}').encode())
        elif self.path.startswith("/v1/flows"):
            self._answer(200, f"{_text(f'flows-{self.number}')}\n".encode(), "application/x-ndjson")
        elif self.path == "/v1/tokens/revoke":
            self._answer(200, json.dumps({"streamsEnded": self.number}).encode())
        elif self.path == "/v1/credentials/invalidate":
            self._answer(200, json.dumps({"invalidated": 10 * self.number}).encode())
        elif self.path.startswith("/v1/sandboxes/"):
            fields = {name: value for name, value in self.headers.items()}
            self._answer(200, json.dumps({"number": self.number, "path": self.path, "fields": fields}).encode())
        else:
            self._answer(204)

    do_GET = do_PUT = do_POST = do_DELETE = _any

    def _report(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        told = 0
        while True:
            lines = _text(f"reports-{self.number}").splitlines()
            data = "".join(f"{line}\n" for line in lines[told:]) or ("" if _text("silent") else "\n")
            told = len(lines)
            if data:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data.encode()))
            time.sleep(0.02)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Server(socketserver.ThreadingUnixStreamServer):
    """A thread for each request."""

    daemon_threads = True


def _text(name: str) -> str:
    try:
        return (FOLDER / name).read_text().strip("\n")
    except FileNotFoundError:
        return ""


def main() -> None:
    """Serve until a SIGTERM, or until the parent has gone."""
    place = json.loads(sys.argv[sys.argv.index("--serving-process") + 1])
    Handler.number = place["number"]
    if status := _text(f"fails-{Handler.number}"):
        raise SystemExit(int(status))
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    Server(place["admin_socket"], Handler).serve_forever(0.02)


if __name__ == "__main__":
    main()
