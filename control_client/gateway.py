"""What is asked of a gateway over HTTP: is it ready, what is this sandbox's CA, and one request through it.

Blocking, for commands and tools. Nothing here reads the environment: a proxy that this process happens to use has
no say in how it reaches its gateway.
"""

import http.client
import json
import ssl
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit

# A CA certificate is 1 KiB, a problem document a little more; a proxy port that is none of ours may send anything.
MAX_ANSWER_BYTES = 256 * 1024
# A recording says every five seconds that it is alive.
RECORDING_SILENCE_SECONDS = 20.0
# Two bodies of a MiB each, six bytes for a byte where all of it is escaped, and heads.
MAX_RECORDED_LINE_BYTES = 16 * 1024 * 1024


class GatewayError(Exception):
    """A gateway did not answer, or not as one; the text says which and never holds a token."""


class Answer(NamedTuple):
    """A status and a body of bounded length."""

    status: int
    body: bytes


def is_ready(address: str, timeout_seconds: float = 2.0) -> bool:
    """Ask `/readyz` of an admin listener (host:port). Raises GatewayError when nothing answers."""
    return _get(address, "/readyz", {}, timeout_seconds).status == http.HTTPStatus.OK


def fetch_ca(proxy_address: str, token: str | None, timeout_seconds: float = 5.0) -> bytes:
    """Return the CA certificate (PEM) of the sandbox a proxy token belongs to. Raises GatewayError.

    A sandboxd is asked without a token: it serves one sandbox.
    """
    headers = {} if token is None else {"Proxy-Authorization": f"Bearer {token}"}
    answer = _get(proxy_address, "/v1/ca.pem", headers, timeout_seconds)
    if answer.status == http.HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        raise GatewayError("the gateway refuses the token")
    if answer.status != http.HTTPStatus.OK or b"BEGIN CERTIFICATE" not in answer.body:
        raise GatewayError(f"{proxy_address} answers {answer.status} where a gateway gives its sandbox's CA")
    return answer.body


def recorded_lines(address: str, query: Mapping[str, str]) -> Iterator[bytes]:
    """Yield the lines of a recording of an admin listener's gateway (docs/flows.md), until the gateway ends it.

    Raises GatewayError, also when the gateway goes in the middle. Closing the generator ends the recording.
    """
    host, port = _split(address)
    link = http.client.HTTPConnection(host, port, timeout=RECORDING_SILENCE_SECONDS)
    try:
        link.request("GET", f"/v1/flows?{urlencode(query)}")
        response = link.getresponse()
        if response.status != http.HTTPStatus.OK:
            raise GatewayError(f"{address} does not record: {_detail(response)}")
        rest = b""
        while piece := response.read1(256 * 1024):
            *lines, rest = (rest + piece).split(b"\n")
            yield from lines
            if len(rest) > MAX_RECORDED_LINE_BYTES:
                raise GatewayError(f"{address} sends a line without end, which is no recording")
    except (OSError, http.client.HTTPException) as error:
        raise GatewayError(f"{address}: {_reason(error)}") from None
    finally:
        link.close()


def request_through(
    proxy_address: str,
    token: str,
    url: str,
    *,
    headers: Mapping[str, str],
    trust: ssl.SSLContext,
    timeout_seconds: float = 10.0,
) -> Answer:
    """GET an https URL through a gateway as a sandbox process does: CONNECT, TLS inside, one request.

    Raises ssl.SSLCertVerificationError when `trust` does not accept the certificate, GatewayError otherwise.
    """
    parts = urlsplit(url)
    host, port = _split(proxy_address)
    link = http.client.HTTPSConnection(host, port, timeout=timeout_seconds, context=trust)
    link.set_tunnel(parts.hostname or "", parts.port or 443, {"Proxy-Authorization": f"Bearer {token}"})
    return _exchange(link, parts.path or "/", headers, proxy_address)


def _get(address: str, path: str, headers: Mapping[str, str], timeout_seconds: float) -> Answer:
    host, port = _split(address)
    return _exchange(http.client.HTTPConnection(host, port, timeout=timeout_seconds), path, headers, address)


def _exchange(link: http.client.HTTPConnection, path: str, headers: Mapping[str, str], address: str) -> Answer:
    try:
        link.request("GET", path, headers={**headers, "Connection": "close"})
        response = link.getresponse()
        return Answer(response.status, response.read(MAX_ANSWER_BYTES))
    except ssl.SSLCertVerificationError:
        raise
    except (OSError, http.client.HTTPException) as error:
        raise GatewayError(f"{address}: {_reason(error)}") from None
    finally:
        link.close()


def _detail(response: http.client.HTTPResponse) -> str:
    """Return what a refusal says of itself."""
    try:
        document = json.loads(response.read(MAX_ANSWER_BYTES))
        return f"{response.status} {document['detail']}"
    except (ValueError, TypeError, KeyError, RecursionError):
        return f"it answers {response.status}"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _split(address: str) -> tuple[str, int]:
    parts = urlsplit(f"//{address}")
    if parts.hostname is None or parts.port is None:
        raise GatewayError(f"{address} is not host:port")
    return parts.hostname, parts.port
