import contextlib
import http.server
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from control_client import gateway
from control_client.gateway import GatewayError, fetch_ca, is_ready, recorded_lines, request_through
from sallyport.net.interception import CaStore

NOBODY = "127.0.0.1:1"
PEM = b"-----BEGIN CERTIFICATE-----\n"


@contextlib.contextmanager
def answering(status: int, body: bytes) -> Iterator[tuple[str, list[str]]]:
    """Stand for a gateway: answers every request alike and keeps the tokens it was shown."""
    tokens: list[str] = []

    class Answering(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            tokens.append(self.headers.get("Proxy-Authorization", ""))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_CONNECT = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"127.0.0.1:{server.server_port}", tokens
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "ready"), [(200, True), (503, False)])
def test_readiness_is_the_status(status: int, *, ready: bool) -> None:
    with answering(status, b"{}") as (address, _):
        assert is_ready(address) is ready


def test_nobody_there() -> None:
    with pytest.raises(GatewayError, match="Connection refused"):
        is_ready(NOBODY)


@pytest.mark.parametrize("address", ["127.0.0.1", "", ":80"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(GatewayError, match="is not host:port"):
        is_ready(address)


def test_the_ca_is_asked_for_with_the_token() -> None:
    with answering(200, PEM) as (address, tokens):
        assert fetch_ca(address, "a.b.c") == PEM
    assert tokens == ["Bearer a.b.c"]


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [(407, b"", "refuses the token"), (200, b"<html>", "answers 200 where"), (404, PEM, "answers 404 where")],
)
def test_what_is_no_ca_is_refused(status: int, body: bytes, told: str) -> None:
    with answering(status, body) as (address, _), pytest.raises(GatewayError, match=told) as caught:
        fetch_ca(address, "to.k.en")
    assert "to.k.en" not in str(caught.value)


def test_a_refused_connect_is_an_error_without_the_token() -> None:
    with answering(403, b"") as (address, tokens), pytest.raises(GatewayError, match="403") as caught:
        request_through(address, "to.k.en", "https://a.test/", headers={}, trust=ssl.create_default_context())
    assert tokens == ["Bearer to.k.en"]
    assert "to.k.en" not in str(caught.value)


def test_the_surroundings_have_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://{NOBODY}")
    with answering(200, b"") as (address, _):
        assert is_ready(address)


def test_a_certificate_that_is_not_trusted_is_told_apart(tmp_path: Path) -> None:
    """An intercepting proxy with an authority of its own, against the system's roots."""
    store = CaStore(tmp_path)
    leaf = store.authority("sbx_one", 1_800_000_000.0).issue("a.test", 1_800_000_000.0)
    (tmp_path / "leaf.pem").write_bytes(leaf.certificate_pem + leaf.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "leaf.pem")

    class Intercepting(http.server.BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(ssl.SSLError):
                context.wrap_socket(self.connection, server_side=True)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Intercepting) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        address = f"127.0.0.1:{server.server_port}"
        with pytest.raises(ssl.SSLCertVerificationError):
            request_through(address, "t", "https://a.test/", headers={}, trust=ssl.create_default_context())
        thread.join()


def test_a_recording_is_read_line_by_line() -> None:
    with answering(200, b'{"kind":"recording"}\n{"kind":"end"}\ntorn') as (address, _):
        assert list(recorded_lines(address, {})) == [b'{"kind":"recording"}', b'{"kind":"end"}']


def test_a_recording_that_is_refused_says_why() -> None:
    with (
        answering(409, b'{"detail":"somebody records"}') as (address, _),
        pytest.raises(GatewayError, match="409 some"),
    ):
        list(recorded_lines(address, {}))
    for body in (b"nothing", b"[" * 100_000):
        with answering(404, body) as (address, _), pytest.raises(GatewayError, match="answers 404"):
            list(recorded_lines(address, {}))
    with pytest.raises(GatewayError):
        list(recorded_lines(NOBODY, {}))


def test_a_line_without_end_is_no_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "MAX_RECORDED_LINE_BYTES", 10)
    with answering(200, b"x" * 100) as (address, _), pytest.raises(GatewayError, match="without end"):
        list(recorded_lines(address, {}))
