"""What a program in a sandbox does: requests through sandboxd's proxy, on connections it keeps or makes anew."""

import http.client
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

REQUEST_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str | None:
        """The code of a refusal of ours."""
        return self.headers.get("X-Sallyport-Error")


class ConnectRefused(Exception):
    """The CONNECT was answered by something else than 200; `answered` is what was said."""

    def __init__(self, answered: Answered) -> None:
        super().__init__(f"{answered.status} {answered.code}")
        self.answered = answered


class _Link(http.client.HTTPSConnection):
    """Like every client's, but a refused CONNECT is told with its answer instead of its status line alone."""

    authorization = ""

    def _tunnel(self) -> None:
        host, port = self._tunnel_host, self._tunnel_port  # type: ignore[attr-defined]  # as http.client keeps them
        self.send(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{self.authorization}\r\n".encode())
        answer = http.client.HTTPResponse(self.sock, method="CONNECT")
        answer.begin()
        if answer.status != 200:
            length = int(answer.getheader("Content-Length", "0"))
            assert answer.fp is not None
            body = answer.fp.read(length)
            raise ConnectRefused(Answered(status=answer.status, headers=dict(answer.getheaders()), body=body))


class Program:
    """One kept connection to one host, through a proxy, trusting one CA.

    A token of the explicit listener stands in the proxy's URL, as it does in variables: http://x:TOKEN@host:port.
    """

    def __init__(self, proxy_url: str, ca_file: Path, host: str, seconds: float = REQUEST_SECONDS) -> None:
        proxy = urlsplit(proxy_url)
        trust = ssl.create_default_context(cafile=str(ca_file))
        self._link = _Link(proxy.hostname or "", proxy.port, timeout=seconds, context=trust)
        if proxy.password is not None:
            self._link.authorization = f"Proxy-Authorization: Bearer {proxy.password}\r\n"
        self._link.set_tunnel(host, 443)

    def ask(self, path: str = "/", method: str = "GET", body: bytes | None = None) -> Answered:
        """Ask for something; ConnectRefused, or OSError and HTTPException as http.client raises them."""
        self._link.request(method, path, body)
        answer = self._link.getresponse()
        return Answered(status=answer.status, headers=dict(answer.getheaders()), body=answer.read())

    def close(self) -> None:
        """Hang up."""
        self._link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def ask_once(proxy_url: str, ca_file: Path, host: str, path: str = "/", seconds: float = REQUEST_SECONDS) -> Answered:
    """Ask on a connection of its own."""
    with Program(proxy_url, ca_file, host, seconds) as program:
        return program.ask(path)
