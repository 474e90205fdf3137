"""Where a request says it goes: targets, Hosts, authorities, paths, queries, URLs.

The input is a target, a Host and a second target, apart by line feeds; read on a stream of its own and on one to a
fixed host. Allowed outcomes, for any bytes:
- Refused with 400 or 421; PathError, HostError, UrlError, each only from its own reader;
- a destination that the Host names as well, whose host is in its one spelling, that reads back from what is written
  for it, and that an independent reading of the same bytes names too;
- a canonical path that is its own canonical form, without dot segments;
- a query without the parameters that were to be stripped, and otherwise the bytes that came.
"""

import re
from urllib.parse import unquote_to_bytes, urlsplit

from gateway.core.authority import Refused, TargetReader, read_connect_destination
from gateway.core.inject.query import strip_query
from sallyport.destination import DEFAULT_PORTS, Destination
from sallyport.host import HostError, normalize_host, parse_host_pattern, split_authority
from sallyport.plan.url import UrlError, split_url
from sallyport.problem import Code
from sallyport.request_path import PathError, canonical_path
from tests.support.fuzzing import run

FIXED = Destination("https", "api.example.com", 443)
SEEDS = (
    b"http://api.example.com/v1/x?a=b&key=c\napi.example.com\nhttp://api.example.com:80/?%6bey=1;b",
    b"https://API.example.com.:0443/\napi.example.com:443\n/v1/%2e%2e/x",
    b"http://[::ffff:7f00:1]:8080/..;/x\n[::ffff:127.0.0.1]:8080\n*",
    b"http://127.0.0.1/%2F%5c%00\n0x7f.1\nhttp://2130706433/",
    b"http://u@a.example\\@b.example/#x\na.example, b.example\na.example:443",
    b"/a//b/./%41%7e\napi.example.com\n/v1?key=1&key=2&KEY=3",
)
STRIPPED = frozenset({"key", "a b"})
_DOT = re.compile(r"(?:^|/)\.{1,2}(?:/|$)")


def check(data: bytes) -> None:
    """Check one input."""
    target, _, rest = data.partition(b"\n")
    host, _, second = rest.partition(b"\n")
    for fixed in (None, FIXED):
        check_targets(TargetReader(fixed), fixed, (target, second, target), host or None)
    for each in (target, host, second):
        check_path(each)
        check_query(each)
        check_text(each.decode("latin-1"))
        try:
            check_destination(read_connect_destination(each))
        except Refused as refused:
            assert refused.deny.code is Code.INVALID_REQUEST


def check_targets(
    reader: TargetReader, fixed: Destination | None, targets: tuple[bytes, ...], host: bytes | None
) -> None:
    """Read one target after the other; what a reader remembers changes no answer."""
    for target in targets:
        try:
            destination, path, _, _ = reader.read(target, host)
        except Refused as refused:
            assert refused.deny.code in (Code.INVALID_REQUEST, Code.AUTHORITY_MISMATCH)
            outcome = None
        else:
            outcome = destination, path
            check_destination(destination)
            assert fixed is None or destination == fixed
            assert path.startswith(b"/")
            assert host is not None
            assert split_authority(host.decode("latin-1"), DEFAULT_PORTS[destination.scheme]) == destination[1:]
            check_second_reading(target, destination)
        try:
            again = TargetReader(fixed).read(target, host)[:2]
        except Refused:
            again = None
        assert again == outcome


def check_second_reading(target: bytes, destination: Destination) -> None:
    """The standard library finds the same host and port in an absolute target."""
    if target.startswith(b"/") or not target.isascii() or re.search(rb"[\x00-\x20]", target):
        return
    parts = urlsplit(target.decode("ascii"))
    assert parts.username is None
    assert parts.hostname is not None
    assert normalize_host(parts.hostname) == destination.host
    assert (parts.port or DEFAULT_PORTS[parts.scheme]) == destination.port


def check_destination(destination: Destination) -> None:
    """It is written in one way, and reads back from it."""
    assert normalize_host(destination.host) == destination.host
    assert 1 <= destination.port <= 65535
    assert split_authority(destination.authority, DEFAULT_PORTS[destination.scheme]) == destination[1:]
    assert split_authority(destination.host_port, None) == destination[1:]


def check_path(path: bytes) -> None:
    """Its canonical form is stable and climbs nowhere."""
    try:
        canonical = canonical_path(path)
    except PathError as error:
        assert error.hint
        return
    assert canonical_path(canonical.encode("ascii")) == canonical
    assert _DOT.search(canonical) is None
    assert unquote_to_bytes(canonical) == unquote_to_bytes(path)


def check_query(query: bytes) -> None:
    """What was to go has gone, the rest is there in its order."""
    kept = strip_query(query, STRIPPED)
    names = [piece.partition(b"=")[0].replace(b"+", b" ") for piece in re.split(rb"[&;]", kept)]
    assert not {unquote_to_bytes(name).lower() for name in names} & {name.encode() for name in STRIPPED}
    left = re.split(rb"[&;]", query)
    for piece in re.split(rb"[&;]", kept) if kept else ():
        left = left[left.index(piece) + 1 :]


def check_text(text: str) -> None:
    """Hosts, patterns and URLs are refused by their own error or have one spelling."""
    try:
        assert normalize_host(normalize_host(text)) == normalize_host(text)
    except HostError:
        pass
    try:
        pattern = parse_host_pattern(text)
        assert parse_host_pattern(str(pattern)) == pattern
    except HostError:
        pass
    try:
        check_destination(split_url(text).destination)
    except UrlError:
        pass


if __name__ == "__main__":
    run(check, SEEDS)
