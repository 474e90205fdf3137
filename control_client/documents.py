"""Ask a control plane, a worker or a gateway's admin listener for JSON documents: blocking, for commands and tools.

Nothing here reads the environment: a proxy that this process happens to use has no say in how a part is reached.
"""

import http.client
import json
import ssl
from collections.abc import Mapping
from typing import cast
from urllib.parse import urlsplit

from sallyport.host import is_loopback

# A page of sandboxes, a plan of 2 MiB; whatever else answers there may send anything.
MAX_ANSWER_BYTES = 4 * 1024 * 1024


class DocumentError(Exception):
    """A part did not answer, or answered with a problem. The text says which and why and never holds a token.

    status is None where there was no answer; code is the problem's own, where it has one.
    """

    def __init__(self, message: str, status: int | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class DocumentSession:
    """One part, by its address (http://host:port or https://host:port) and a service token it takes."""

    def __init__(
        self, url: str, token: str | None = None, *, trust: ssl.SSLContext | None = None, timeout_seconds: float = 10.0
    ) -> None:
        """Raises ValueError for what is no address, and for one that the token would go to in cleartext."""
        self.url = url.rstrip("/")
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or parts.hostname is None:
            raise ValueError(f"{url} is not an address; write http://host:port or https://host:port")
        if token is not None and parts.scheme == "http" and not is_loopback(parts.hostname):
            raise ValueError(f"{url} is cleartext off loopback, where no token goes; write https://")
        self._parts = parts
        self._token = token
        self._trust = trust
        self._timeout_seconds = timeout_seconds

    def get(self, path: str) -> dict[str, object]:
        """Return a document; raises DocumentError."""
        return _object(self.ask("GET", path), path)

    def post(self, path: str, document: object) -> dict[str, object]:
        """Send a document and return the answer's; raises DocumentError."""
        return _object(self.ask("POST", path, json.dumps(document).encode()), path)

    def ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """Make one request and return the body of a 2xx answer; raises DocumentError for anything else."""
        status, content = self._exchange(method, path, body)
        if 200 <= status < 300:
            return content
        code, detail = _problem(content)
        raise DocumentError(f"{self.url} answers {status} to {method} {path}{detail}", status, code)

    def _exchange(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        headers = {"Connection": "close", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        link = self._link()
        try:
            link.request(method, self._parts.path + path, body, headers)
            answer = link.getresponse()
            content = answer.read(MAX_ANSWER_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise DocumentError(f"{self.url}: {reason}") from None
        finally:
            link.close()
        if len(content) > MAX_ANSWER_BYTES:
            raise DocumentError(f"{self.url} answers {method} {path} with more than {MAX_ANSWER_BYTES} bytes")
        return answer.status, content

    def _link(self) -> http.client.HTTPConnection:
        host, port = cast(str, self._parts.hostname), self._parts.port
        if self._parts.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=self._timeout_seconds)
        return http.client.HTTPSConnection(host, port, timeout=self._timeout_seconds, context=self._trust)

    def __repr__(self) -> str:
        return f"<DocumentSession {self.url}>"


def _object(content: bytes, path: str) -> dict[str, object]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise DocumentError(f"the answer to {path} is not a JSON object")
    return document


def _problem(content: bytes) -> tuple[str | None, str]:
    """Read the code and the words of a problem document (RFC 9457), or of the worker's errors."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return None, ""
    if not isinstance(document, Mapping):
        return None, ""
    error = document.get("error")
    if isinstance(error, Mapping):
        return _text(error.get("category")), f": {error.get('message')}"
    issues = document.get("issues")
    lines = [f"\n  {_issue(issue)}" for issue in issues] if isinstance(issues, list) else []
    return _text(document.get("code")), f": {document.get('detail') or document.get('title')}" + "".join(lines)


def _issue(issue: object) -> str:
    if isinstance(issue, Mapping):
        return f"{issue.get('pointer') or '(document)'}: {issue.get('message')}"
    return str(issue)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
