"""Each push is a revision above the last, and what a gateway refuses is told; a real one takes them elsewhere."""

import http.server
import threading
from collections.abc import Iterator

import pytest

from benchmarks.plan_pushes import PlanPushes
from benchmarks.subject import free_port


class _Admin(http.server.BaseHTTPRequestHandler):
    status = 200
    seen: list[tuple[str, bytes]]

    def do_PUT(self) -> None:
        self.seen.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def admin() -> Iterator[http.server.HTTPServer]:
    _Admin.seen, _Admin.status = [], 200
    with http.server.HTTPServer(("127.0.0.1", 0), _Admin) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        yield server
        server.shutdown()
        serving.join()


def _document(revision: int) -> bytes:
    return b"revision %d" % revision


def test_each_push_is_a_revision_above_the_last_one(admin: http.server.HTTPServer) -> None:
    pushes = PlanPushes(admin.server_port, "sbx_x", _document)
    for expected in (2, 3):
        with pushes.under_way() as pushed:
            pass
        assert (pushed.taken, pushed.refused) == (1, [])
        assert _Admin.seen[-1] == ("/v1/sandboxes/sbx_x/plan", _document(expected))


def test_what_is_refused_or_not_answered_is_told(admin: http.server.HTTPServer) -> None:
    _Admin.status = 422
    with PlanPushes(admin.server_port, "sbx_x", _document).under_way() as pushed:
        pass
    assert pushed.taken == 0
    assert pushed.refused[0].startswith("422 ")
    with PlanPushes(free_port(), "sbx_x", _document).under_way() as pushed:
        pass
    assert "ConnectionRefusedError" in pushed.refused[0]
