"""An HTTP server on a thread that answers what a test wrote down, for code that blocks."""

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Asked(NamedTuple):
    """One request as it came."""

    method: str
    path: str
    authorization: str | None
    body: bytes


@dataclass
class ScriptedHttp:
    """What is answered by path (the query included), and for every other path; and what was asked."""

    url: str = ""
    status: int = 200
    body: bytes = b"{}"
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def answer(self, path: str, document: object, status: int = 200) -> None:
        """Answer this path with a document from now on."""
        self.answers[path] = status, json.dumps(document).encode()


@contextlib.contextmanager
def scripted_http() -> Iterator[ScriptedHttp]:
    """Serve on a free loopback port until the block ends."""
    scripted = ScriptedHttp()

    class Answering(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            scripted.asked.append(Asked(self.command, self.path, self.headers.get("Authorization"), body))
            status, content = scripted.answers.get(self.path, (scripted.status, scripted.body))
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = answer

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    scripted.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield scripted
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
