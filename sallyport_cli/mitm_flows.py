"""A recording as a mitmproxy flow file, which `mitmweb -r` opens. Needs mitmproxy, which is imported by nobody else.

Its flow classes alone take 40 MB (docs/decisions/0003-what-mitmproxy-is-for.md).
"""

from collections.abc import Iterable
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from sallyport_cli.failure import environment
from sallyport_cli.recording import RecordedBody, RecordedExchange

_DEFAULT_PORTS = {"http": 80, "https": 443}


def write_mitm_flows(exchanges: Iterable[RecordedExchange], file: BinaryIO) -> int:
    """Write exchanges as flows, one by one; return how many. Raises Failure where mitmproxy is missing."""
    try:
        from mitmproxy.io import FlowWriter  # type: ignore[import-not-found]  # an extra, not where this is checked
    except ImportError:
        hint = "pip install 'sallyport[mitmproxy]', best in an environment of its own; --format har needs nothing"
        raise environment("mitmproxy is not installed beside this command", hint) from None
    writer = FlowWriter(file)
    count = 0
    for exchange in exchanges:
        writer.add(mitm_flow(exchange))
        count += 1
    return count


def mitm_flow(exchange: RecordedExchange) -> Any:  # noqa: ANN401  a mitmproxy.http.HTTPFlow
    """Return one exchange as a flow: the head as it was sent, redacted; what was decided in its comment."""
    from mitmproxy import connection, flow, http  # type: ignore[import-not-found]  # as above

    started = exchange.time.timestamp()
    ended = started + exchange.duration_ms / 1000
    split = urlsplit(exchange.url)
    host, port = split.hostname or "unknown.invalid", split.port or _DEFAULT_PORTS[split.scheme]
    # A recording names no address of a sandbox; mitmproxy wants one.
    client = connection.Client(peername=("0.0.0.0", 0), sockname=("0.0.0.0", 0), timestamp_start=started)
    server = connection.Server(address=(host, port))
    found = http.HTTPFlow(client, server)
    found.request = http.Request(
        host=host,
        port=port,
        method=exchange.method.encode("latin-1"),
        scheme=split.scheme.encode("ascii"),
        authority=b"",
        path=exchange.head.target.encode("latin-1") if exchange.sent else _path(exchange.url),
        http_version=b"HTTP/1.1",
        headers=http.Headers(_octets(exchange.head.fields)),
        content=_content(exchange.request_body),
        trailers=None,
        timestamp_start=started,
        timestamp_end=started + (exchange.sent_ms or 0.0) / 1000,
    )
    answer = exchange.answer
    if answer is None:
        found.error = flow.Error(exchange.outcome, ended)
    else:
        found.response = http.Response(
            http_version=b"HTTP/1.1",
            status_code=answer.status,
            reason=answer.reason.encode("latin-1"),
            headers=http.Headers(_octets(answer.fields)),
            content=_content(exchange.answer_body),
            trailers=None,
            timestamp_start=started + (exchange.answered_ms or exchange.duration_ms) / 1000,
            timestamp_end=ended,
        )
    found.comment = ", ".join(f"{name}: {value}" for name, value in exchange.decided.items()) + _remarks(exchange)
    found.metadata["sallyport"] = exchange.decided
    return found


def _path(url: str) -> bytes:
    """Return the path and query of an absolute URL."""
    return b"/" + url.partition("://")[2].partition("/")[2].encode("latin-1")


def _remarks(exchange: RecordedExchange) -> str:
    told = ""
    for name, body in (("request body", exchange.request_body), ("answer body", exchange.answer_body)):
        if body is not None and body.omitted is not None:
            told += f"; {name} not recorded: {body.omitted}"
        elif body is not None and body.truncated:
            told += f"; {name} cut short, it had {body.size_bytes} bytes"
    return told


def _octets(fields: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]


def _content(body: RecordedBody | None) -> bytes:
    return b"" if body is None else body.content
