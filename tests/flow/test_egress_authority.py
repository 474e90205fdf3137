"""Hosts, ports and names that must agree (H1 to H5, H9, H10, A1 to A7) against a running gateway, by both ways.

Where a case has a meaning there: where TLS has ended, in the clear, and in a CONNECT whose bytes pass through.
"""

import asyncio
import json
import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography import x509

from sallyport.wire.client_hello import HANDSHAKE_FAILURE_ALERT, UNRECOGNIZED_NAME_ALERT
from tests.support.afterwards import AFTERWARDS
from tests.support.egress_stage import (
    ADDED_LINES,
    ALLOWED,
    EVERYBODYS_PORT,
    OTHER_PORT,
    ROUTE,
    Case,
    Play,
    Played,
    Scene,
    asks_inside,
    asks_plainly,
    asks_to_connect,
    of,
    play_all,
)
from tests.support.egress_ways import SANDBOXD, WAYS, established
from tests.support.figures import InTime, RecordProperty
from tests.support.gateway_plans import plan, route
from tests.support.origin import OK, Answer, Then
from tests.support.plan_documents import Document
from tests.support.tls_by_hand import TlsByHand, trusting

GET = b"GET /v1/x HTTP/1.1\r\nHost: {host}\r\n\r\n"
PLAIN_GET = b"GET http://{host}/v1/x HTTP/1.1\r\nHost: {host}\r\n\r\n"
ARRIVED = b"GET /v1/x HTTP/1.1\r\nHost: {host}\r\n" + ADDED_LINES
OPAQUE = "passthrough; revision=1"
NO_ROUTE: Sequence[Document] = ()


def host_cases(word: str, value: bytes, status: int, code: str, *, closes: bool = False) -> list[Case]:
    """Put one Host where TLS has ended, in the clear, and in a CONNECT (which always ends its stream)."""
    lines = b" HTTP/1.1\r\nHost: " + value + b"\r\n\r\n"
    plays = (
        ("inside", asks_inside(b"GET /v1/x" + lines, closes=closes), closes),
        ("plain", asks_plainly(b"GET http://{host}/v1/x" + lines, closes=closes), closes),
        ("connect", asks_to_connect(b"CONNECT {host}:443" + lines), True),
    )
    return [
        Case(name=f"{word} Host {value!r} {where}", play=play, status=status, code=code, closes=ends)
        for where, play, ends in plays
    ]


def target_cases(word: str, authority: bytes, *, is_readable: bool = True) -> list[Case]:
    """Put one hostile authority in a URL and in a CONNECT; a head that cannot be read ends its stream."""
    url = asks_plainly(b"GET http://" + authority + b"/v1 HTTP/1.1\r\nHost: {host}\r\n\r\n", closes=not is_readable)
    connect = asks_to_connect(b"CONNECT " + authority + b":443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n")
    return [
        Case(name=f"{word} URL {authority!r}", play=url, status=400, code="invalid_request", closes=not is_readable),
        Case(name=f"{word} CONNECT {authority!r}", play=connect, status=400, code="invalid_request", closes=True),
    ]


# -- H: hosts and ports

H1 = [
    *(
        Case(
            name=f"H1 Host {spelled!r} at {target!r}",
            play=play(b"GET " + target + b" HTTP/1.1\r\nHost: " + spelled + b"\r\n\r\n"),
            status=200,
            sent=(ARRIVED,),
        )
        for play, target, port in ((asks_inside, b"/v1/x", b"443"), (asks_plainly, b"http://{host}/v1/x", b"80"))
        for spelled in (b"{HOST}", b"{host}.", b"{host}:" + port, b"{HOST}.:00" + port)
    ),
    *(
        Case(
            name=f"H1 a CONNECT to {authority!r}",
            play=asks_inside(GET, authority=authority),
            status=200,
            sent=(ARRIVED,),
        )
        for authority in (b"{HOST}:443", b"{host}.:443", b"{host}:0443")
    ),
    *(
        Case(
            name=f"H1 a URL of {authority!r}",
            play=asks_plainly(b"GET http://" + authority + b"/v1/x HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            status=200,
            sent=(ARRIVED,),
        )
        for authority in (b"{HOST}", b"{host}.", b"{HOST}.:080")
    ),
    *target_cases("H1 two dots", b"{host}.."),
]


def neighbour_cases(host: str) -> list[Case]:
    """Ask for a host whose name only looks like the managed one: refused, or forwarded as it came where a rule says."""
    asked = host.encode()
    plain = asks_plainly(b"GET http://%b/v1/x HTTP/1.1\r\nHost: %b\r\n\r\n" % (asked, asked))
    connect = asks_to_connect(b"CONNECT %b:443 HTTP/1.1\r\nHost: %b\r\n\r\n" % (asked, asked), OPAQUE)
    denied, further = "denied_by_plan", (host,)
    return [
        Case(name=f"H2 {host} in the clear", play=plain, status=403, code=denied, further=further),
        Case(name=f"H2 {host} by CONNECT", play=connect, status=403, code=denied, closes=True, further=further),
        Case(
            name=f"H2 {host} allowed",
            play=plain,
            status=200,
            sent=(b"GET /v1/x HTTP/1.1\r\nHost: %b\r\n\r\n" % asked,),
            rules=({"action": "allow", "hosts": [host]},),
            further=further,
        ),
    ]


H2 = [case for host in ("{host}.evil.test", "evil{host}", "evil-{host}", "x.{host}") for case in neighbour_cases(host)]
H3 = [
    case
    for host in ("ä.{host}", "\uff41{host}", "{host}\u3002", "{host}\uff0etest", "\u212a{host}")
    for case in (
        *target_cases("H3", host.encode(), is_readable=False),
        *host_cases("H3", host.encode(), 400, "invalid_request"),
    )
]
H4 = [
    *(
        case
        for byte in (b"%00", b"/", b"@", b",", b"%20", b"%2f", b"\\", b"?", b"[", b"*")
        for case in host_cases("H4", b"{host}" + byte + b"evil.test", 400, "invalid_request")
    ),
    *(
        case
        for byte in (b"\0", b"\r")
        for case in host_cases("H4", b"{host}" + byte, 400, "invalid_request", closes=True)
    ),
    *host_cases("H4 a space in", b"{host} evil.test", 400, "invalid_request"),
    *(
        case
        for byte in (b"%00", b"@", b",", b"%20", b"\\", b"[")
        for case in target_cases("H4", b"{host}" + byte + b"x")
    ),
    *(case for byte in (b"\0", b" ", b"\t") for case in target_cases("H4", b"{host}" + byte + b"x", is_readable=False)),
    Case(
        name="H4 CONNECT with a path",
        play=asks_to_connect(b"CONNECT {host}:443/v1 HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        status=400,
        code="invalid_request",
        closes=True,
    ),
    Case(
        name="H4 CONNECT to a URL",
        play=asks_to_connect(b"CONNECT https://{host}:443 HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        status=400,
        code="invalid_request",
        closes=True,
    ),
    Case(
        name="H4 CONNECT without a port",
        play=asks_to_connect(b"CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        status=400,
        code="invalid_request",
        closes=True,
    ),
]
H5 = [
    case
    for host in (b"a" * 64 + b".{host}", b".".join([b"a" * 60] * 5) + b".{host}", b"a..{host}", b".{host}", b"-{host}")
    for case in (*target_cases("H5", host), *host_cases("H5", host, 400, "invalid_request"))
]
H9 = [
    Case(
        name="H9 another port inside",
        play=asks_inside(b"GET /v1/x HTTP/1.1\r\nHost: {host}:%d\r\n\r\n" % OTHER_PORT),
        status=421,
        code="authority_mismatch",
    ),
    Case(
        name="H9 another port in the clear",
        play=asks_plainly(b"GET http://{host}:%d/v1/x HTTP/1.1\r\nHost: {host}:%d\r\n\r\n" % (OTHER_PORT, OTHER_PORT)),
        status=200,
        sent=(b"GET /v1/x HTTP/1.1\r\nHost: {host}:%d\r\n\r\n" % OTHER_PORT,),
        rules=ALLOWED,
    ),
    Case(
        name="H9 another port that nobody allows",
        play=asks_to_connect(b"CONNECT {host}:%d HTTP/1.1\r\nHost: {host}\r\n\r\n" % OTHER_PORT, OPAQUE),
        status=403,
        code="denied_by_plan",
        closes=True,
    ),
]


async def speaks_opaquely(scene: Scene) -> None:
    """Bytes that pass through a CONNECT arrive as they are."""
    end = await scene.opaque(b"{host}:%d" % OTHER_PORT)
    end.send(scene.fill(GET))
    assert await end.exactly(len(OK)) == OK
    end.close()


H9.append(
    Case(
        name="H9 another port passes through",
        play=speaks_opaquely,
        sent=(GET,),
        audited=[(200, None)],
        rules=ALLOWED,
    )
)


async def pushes_a_lone_wildcard(scene: Scene) -> None:
    document = plan([route("everything", ["*"], "con_egress")], revision=2)
    status, body = await asyncio.to_thread(scene.way.gateway.put_plan, document)
    assert status == 422, body
    assert "lone_wildcard" in str(json.loads(body))
    await scene.read(await scene.plain(PLAIN_GET))


H10 = [
    Case(
        name="H10 a route of every host is no plan",
        play=pushes_a_lone_wildcard,
        status=403,
        code="denied_by_plan",
        routes=NO_ROUTE,
    ),
    Case(
        name="H10 a rule for every host only forwards",
        play=asks_plainly(
            b"GET http://{host}:%d/v1/x HTTP/1.1\r\nHost: {host}:%d\r\n\r\n" % (EVERYBODYS_PORT, EVERYBODYS_PORT)
        ),
        status=200,
        sent=(b"GET /v1/x HTTP/1.1\r\nHost: {host}:%d\r\n\r\n" % EVERYBODYS_PORT,),
        rules=({"action": "allow", "hosts": ["*"], "ports": [EVERYBODYS_PORT]},),
    ),
]

# -- A: what must agree

A1_REQUESTS = [
    *(
        case
        for host in (b"evil.test", b"x{host}", b"{host}:444")
        for case in host_cases("A1", host, 421, "authority_mismatch")
    ),
    *(
        Case(
            name=f"A1 a URL of {url!r} inside",
            play=asks_inside(b"GET " + url + b"/v1/x HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            status=421,
            code="authority_mismatch",
        )
        for url in (b"https://evil.test", b"http://{host}", b"https://{host}:444", b"https://x.{host}")
    ),
    Case(
        name="A1 a CONNECT inside",
        play=asks_inside(b"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n", method="CONNECT", closes=True),
        status=400,
        code="invalid_request",
        closes=True,
    ),
]


def hello(scene: Scene, name: str | None, *alpn: str) -> bytes:
    """Return a ClientHello; a name that no client would send is put in the place of one that is as long."""
    trust = trusting(scene.way.ca_pem, *alpn)
    if name is None:
        return TlsByHand(trust, None).hello()
    labels = "".join("." if at % 50 == 49 else "x" for at in range(len(name) - 3))
    stand_in = f"{labels}x.y" if len(name) > 2 else "x"
    block = TlsByHand(trust, stand_in).hello()
    assert block.count(stand_in.encode()) == 1
    return block.replace(stand_in.encode(), name.encode("latin-1"))


# Longer than any hello may be; the length is in its first record already.
LONG_HELLO = b"\x16\x03\x01\x3f\x00\x01\x00\x50\x00\x03\x03" + bytes(17_000)
OTHER_NAMES = ("evil.test", "x.{host}", "{host}.evil.test", "127.0.0.9", "::1")
NO_NAMES = (
    "{host}\0",
    "{host} x",
    "{host}/",
    "{host}@evil.test",
    "{host},x",
    "ä.{host}",
    "127.0.0.09",
    "127.1",
)
NAMES = (*OTHER_NAMES, *NO_NAMES)
LONG_LABELS = ("a" * 64 + ".{host}", "a..{host}", ".{host}")


async def intercepted_hello(scene: Scene, *pieces: bytes) -> bytes:
    """Send a hello where TLS would end, and return the end of the stream."""
    end = await scene.connect(b"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}\r\n\r\n")
    await established(end)
    for piece in pieces:
        end.send(piece)
    return await scene.cut(end)


def names_another(name: str, alert: bytes, *alpn: str, word: str = "A1 H4") -> Case:
    async def play(scene: Scene) -> None:
        assert (
            await intercepted_hello(scene, hello(scene, scene.fill(name.encode("latin-1")).decode("latin-1"), *alpn))
            == alert
        )

    code = "sni_mismatch" if alert == UNRECOGNIZED_NAME_ALERT else "invalid_request"
    return Case(
        name=f"{word} an intercepted hello for {name!r}",
        play=play,
        audited=[(None, code)],
        closes=True,
        ways=("explicit", SANDBOXD),
    )


async def says_too_long_a_hello(scene: Scene) -> None:
    assert await intercepted_hello(scene, LONG_HELLO) == HANDSHAKE_FAILURE_ALERT


async def says_two_hellos(scene: Scene) -> None:
    first, second = hello(scene, scene.host), hello(scene, "evil.test")
    both = first[5:] + second[5:]
    assert await intercepted_hello(scene, b"\x16\x03\x01" + len(both).to_bytes(2) + both) == HANDSHAKE_FAILURE_ALERT


async def names_nothing(scene: Scene) -> None:
    """A missing name means the host of the CONNECT."""
    end = await scene.connect(b"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}\r\n\r\n")
    await established(end)
    tls = TlsByHand(trusting(scene.way.ca_pem), None)
    end.send(tls.hello())
    await tls.finish(end)
    assert b"200 OK" in await tls.exchange(end, scene.fill(GET), b"\r\n\r\nok")


A1_TLS = [
    *(names_another(name, UNRECOGNIZED_NAME_ALERT) for name in OTHER_NAMES),
    *(names_another(name, HANDSHAKE_FAILURE_ALERT) for name in NO_NAMES),
    *(
        Case(
            name=f"A1 {play.__name__}",
            play=play,
            audited=[(None, "invalid_request")],
            closes=True,
            ways=("explicit", SANDBOXD),
        )
        for play in (says_too_long_a_hello, says_two_hellos)
    ),
    Case(
        name="A1 no name in an intercepted hello",
        play=names_nothing,
        sent=(ARRIVED,),
        audited=[(200, None)],
        ways=("explicit", SANDBOXD),
    ),
]


PORT = b"%d" % OTHER_PORT


def passes(
    word: str, first: str | bytes | None, piece: int = 100_000, *, to: bytes = b"{host}", port: bytes = PORT
) -> Case:
    """First bytes that pass through a CONNECT: a hello that names a host, or none, or other bytes."""

    async def play(scene: Scene) -> None:
        name = scene.fill(first.encode()).decode() if isinstance(first, str) else None
        data = (first if isinstance(first, bytes) else hello(scene, name)) + scene.fill(GET)
        end = await scene.opaque(to + b":" + port)
        for start in range(0, len(data), piece):
            end.send(data[start : start + piece])
            await end.flush()
        # What follows is nobody's to look at. The origin cannot read it, and its 400 says that everything has arrived.
        await end.until(b"\r\n\r\n")
        scene.must_arrive = [data]
        end.close()

    return Case(
        name=f"A1 passes: {word}",
        play=play,
        audited=[(200, None)],
        rules=({"action": "allow", "hosts": ["{host}", "{address}"]},),
        routes=NO_ROUTE,
    )


def is_reset(word: str, first: str | bytes | None, *, to: bytes = b"{host}") -> Case:
    """First bytes that end a CONNECT instead."""

    async def play(scene: Scene) -> None:
        name = scene.fill(first.encode("latin-1")).decode("latin-1") if isinstance(first, str) else None
        data = first if isinstance(first, bytes) else hello(scene, name)
        end = await scene.opaque(to + b":" + PORT)
        if data:
            end.send(data)
        assert await scene.cut(end) == b""

    return Case(
        name=f"A1 is reset: {word}",
        play=play,
        audited=[(None, "sni_mismatch")],
        closes=True,
        rules=({"action": "allow", "hosts": ["{host}", "{address}"]},),
        routes=({"match": {"hosts": ["managed.{host}"], "ports": [OTHER_PORT]}},),
    )


A1_OPAQUE = [
    passes("its own name", "{host}"),
    passes("its own name in segments of one byte", "{host}", 1),
    passes("no name, to a host", None),
    passes("a first byte that is no TLS, to a host", b"\x00\xff*1\r\n"),
    passes("to an address, a name that may pass", "{host}", to=b"{address}"),
    *(is_reset(f"{name!r}", name) for name in NAMES),
    is_reset("a managed name", "managed.{host}"),
    is_reset("too long a hello", LONG_HELLO),
    is_reset("to an address, no name", None, to=b"{address}"),
    is_reset("to an address, a managed name", "managed.{host}", to=b"{address}"),
    is_reset("to an address, a name nobody allows", "evil.test", to=b"{address}"),
    is_reset("to an address, a first byte that is no TLS", b"GET / HTTP/1.1\r\n", to=b"{address}"),
    is_reset("to an address, silence", b"", to=b"{address}"),
    is_reset("to an address, that address as a name", "{address}", to=b"{address}"),
    is_reset("to an address, another address as a name", "127.0.0.9", to=b"{address}"),
    is_reset("to an address, an IPv6 address as a name", "::1", to=b"{address}"),
]
H1_OPAQUE = [
    *(
        passes(f"H1 {name} in a CONNECT to {to!r}, port {port!r}", name, to=to, port=port)
        for to, port, name in (
            (b"{HOST}.", PORT, "{HOST}."),
            (b"{host}", b"0" + PORT, "{host}"),
            (b"{HOST}.", b"00" + PORT, "{host}"),
            (b"{host}", PORT, "{HOST}."),
            (b"{address}", b"0" + PORT, "{HOST}."),
        )
    ),
    *(
        Case(
            name=f"H1 a denied CONNECT to {authority!r}",
            play=asks_to_connect(b"CONNECT %b HTTP/1.1\r\nHost: {host}\r\n\r\n" % authority, OPAQUE),
            status=403,
            code="denied_by_plan",
            closes=True,
            rules=({"action": "deny", "hosts": ["{host}"]},),
            routes=NO_ROUTE,
        )
        for authority in (b"{HOST}.:" + PORT, b"{host}:0" + PORT, b"{HOST}.:00" + PORT)
    ),
]
H5_HELLOS = [
    *(names_another(name, HANDSHAKE_FAILURE_ALERT, word="H5") for name in LONG_LABELS),
    *(
        is_reset(f"H5 {name!r}{word}", name, to=to)
        for name in LONG_LABELS
        for word, to in (("", b"{host}"), (", to an address", b"{address}"))
    ),
]


def cleartext(authority: bytes, status: int, code: str, *, is_allowed: bool) -> Case:
    """Put an HTTP request where TLS was to begin."""

    async def play(scene: Scene) -> None:
        end = await scene.connect(
            b"CONNECT " + authority + b" HTTP/1.1\r\nHost: {host}\r\n\r\n", "intercepted; revision=1; cleartext"
        )
        await established(end)
        end.send(scene.fill(b"GET /v1/x HTTP/1.1\r\nHost: " + authority + b"\r\n\r\n"))
        await scene.read(end)

    return Case(
        name=f"A1 in the clear to {authority!r} {is_allowed}",
        play=play,
        status=status,
        code=code,
        sent=() if code else (ARRIVED,),
        routes=(ROUTE | {"allowCleartext": is_allowed},),
    )


A1_CLEARTEXT = [
    cleartext(b"{host}:80", 200, "", is_allowed=True),
    cleartext(b"{host}:80", 403, "cleartext_refused", is_allowed=False),
    cleartext(b"{host}:443", 403, "denied_by_plan", is_allowed=True),
]


def then_another(opens: bytes, host: bytes, target: bytes) -> Case:
    """Three requests on one stream, of which the second names another host."""

    async def play(scene: Scene) -> None:
        first = scene.plain if opens == PLAIN_GET else scene.inside
        end = await first(opens)
        await scene.read(end)
        is_explicit = opens == PLAIN_GET and scene.way.name == "explicit"
        token = b"Proxy-Authorization: Bearer " + scene.way.gateway.token.encode() + b"\r\n" if is_explicit else b""
        for request in (b"GET " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\n", opens[:-2]):
            end.send(scene.fill(request) + token + b"\r\n")
            await scene.read(end)

    return Case(
        name=f"A2 then {host!r} at {target!r}",
        play=play,
        status=200,
        sent=(ARRIVED + ARRIVED,),
        audited=[(200, None), (421, "authority_mismatch"), (200, None)],
    )


A2 = [
    then_another(GET, b"evil.test", b"/v1/x"),
    then_another(GET, b"{host}", b"https://evil.test/v1/x"),
    then_another(PLAIN_GET, b"evil.test", b"http://{host}/v1/x"),
    then_another(PLAIN_GET, b"{host}", b"http://evil.test/v1/x"),
]
A3 = [
    *host_cases("A3 twice", b"{host}\r\nHost: {host}", 400, "invalid_request", closes=True),
    *host_cases("A3 another too", b"{host}\r\nhOST: evil.test", 400, "invalid_request", closes=True),
    *host_cases("A3 empty", b"", 400, "invalid_request"),
    *host_cases("A3 a list", b"{host}, evil.test", 400, "invalid_request"),
    *host_cases("A3 folded", b"{host}\r\n evil.test", 400, "invalid_request", closes=True),
    *host_cases("A3 a twin", b"{host}\r\nH\xf6st: evil.test", 400, "invalid_request", closes=True),
    *(
        Case(
            name=f"A3 {lines!r} {where}",
            play=play,
            status=400,
            code="invalid_request",
            closes=closes or where == "connect",
        )
        for lines, closes in (
            (b"Host : {host}\r\n", True),
            (b" Host: {host}\r\n", True),
            (b"", False),
            (b"Host\r\n", True),
        )
        for where, play in (
            ("inside", asks_inside(b"GET /v1/x HTTP/1.1\r\n" + lines + b"\r\n", closes=closes)),
            ("plain", asks_plainly(b"GET http://{host}/v1/x HTTP/1.1\r\n" + lines + b"\r\n", closes=closes)),
            ("connect", asks_to_connect(b"CONNECT {host}:443 HTTP/1.1\r\n" + lines + b"\r\n")),
        )
    ),
]
A4 = [
    Case(
        name="A4 an origin with another's certificate",
        play=asks_inside(GET),
        status=502,
        code="upstream_unreachable",
        prefix="uncertified-",
    )
]


async def asks_for_other_services(scene: Scene) -> None:
    answer = await scene.read(await scene.inside(b"GET /v1/services HTTP/1.1\r\nHost: {host}\r\n\r\n"))
    assert answer.values("Alt-Svc") == []
    assert answer.values("X-Other") == ["kept"]


A5 = [
    Case(
        name="A5",
        play=asks_for_other_services,
        status=200,
        sent=(b"GET /v1/services HTTP/1.1\r\nHost: {host}\r\n" + ADDED_LINES,),
    )
]


async def looks_at_the_leaf(scene: Scene) -> None:
    end = await scene.inside(GET)
    await scene.read(end)
    tls = end.writer.get_extra_info("ssl_object")
    assert isinstance(tls, ssl.SSLObject)
    leaf = x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"")
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.DNSName(scene.host)]


# Inside a tunnel the leaf is sandboxd's to make (tests/sandboxd/test_interception.py).
A6 = [Case(name="A6", play=looks_at_the_leaf, status=200, sent=(ARRIVED,), ways=("explicit", SANDBOXD))]
DIES = b" /v1/dies HTTP/1.1\r\nHost: {host}\r\n"


def on_a_link_that_dies(request: bytes) -> Play:
    async def play(scene: Scene) -> None:
        end = await scene.inside(GET)
        await scene.read(end)
        end.send(scene.fill(request))
        answer = await scene.read(end)
        assert json.loads(answer.body)["retryable"] is True

    return play


A7 = [
    Case(
        name="A7 what may be repeated is sent once more",
        play=on_a_link_that_dies(b"GET" + DIES + b"\r\n"),
        status=502,
        code="upstream_unreachable",
        sent=(ARRIVED + b"GET" + DIES + ADDED_LINES, b"GET" + DIES + ADDED_LINES),
        audited=[(200, None), (502, "upstream_unreachable")],
    ),
    Case(
        name="A7 what may not be is not",
        play=on_a_link_that_dies(b"POST" + DIES + b"Content-Length: 2\r\n\r\nhi"),
        status=502,
        code="upstream_unreachable",
        sent=(ARRIVED + b"POST" + DIES + b"Content-Length: 2\r\n" + ADDED_LINES + b"hi",),
        audited=[(200, None), (502, "upstream_unreachable")],
    ),
]


def play(folder: Path, ways: Sequence[str] = WAYS) -> Played:
    """Play the suite."""
    requests = [*H1, *H2, *H3, *H4, *H5, *H9, *H10, *A1_REQUESTS, *A2, *A3, *A4, *A5, *A6, *A7]
    return play_all(
        folder,
        [*requests, *H1_OPAQUE, *H5_HELLOS, *A1_TLS, *A1_OPAQUE, *A1_CLEARTEXT],
        answers={
            "/v1/services": Answer(
                parts=(b'HTTP/1.1 200 OK\r\nAlt-Svc: h3=":443"\r\nX-Other: kept\r\nContent-Length: 0\r\n\r\n',)
            ),
            "/v1/dies": Answer(parts=(), then=Then.CLOSE),
        },
        further={"timeouts": {"client_hello": "3s"}},
        is_certified=lambda host: not host.startswith("uncertified-"),
        ways=ways,
    )


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    return play(tmp_path_factory.mktemp("authority"))


@of(H1)
def test_h1_one_host_has_many_spellings(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(H1_OPAQUE)
def test_h1_one_host_has_many_spellings_where_bytes_pass(case: Case, way: str, played: Played) -> None:
    scene = played.check(case, way)
    # A rule that is in the plan has decided, and not its default.
    (record,) = scene.audited
    assert str(record["egressRuleId"]).startswith("rule-")


@of(H2)
def test_h2_a_name_round_a_managed_one_is_another(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(H3)
def test_h3_what_is_not_ascii_is_never_folded(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(H4)
def test_h4_what_no_host_can_hold(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(H5)
def test_h5_labels_and_names_have_a_length(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(H5_HELLOS)
def test_h5_the_labels_of_a_name_in_a_hello_have_a_length(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(H9)
def test_h9_another_port_gets_no_credential(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(H10)
def test_h10_a_lone_wildcard_attaches_no_credential(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(A1_REQUESTS)
def test_a1_what_names_two_hosts_is_refused(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(A1_TLS)
def test_a1_the_name_in_an_intercepted_hello(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(A1_OPAQUE)
def test_a1_the_first_bytes_of_what_passes_through(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(A1_CLEARTEXT)
def test_a1_cleartext_inside_a_connect_is_an_http_request(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(A2)
def test_a2_every_request_of_a_stream_is_checked(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(A3)
def test_a3_there_is_one_host_field(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(A4)
def test_a4_an_upstream_proves_its_name(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(A5)
def test_a5_alternative_services_stay_behind(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(A6)
def test_a6_a_leaf_names_one_host(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@of(A7)
def test_a7_a_link_that_dies_is_replaced_once(case: Case, way: str, played: Played) -> None:
    played.check(case, way)


@AFTERWARDS
def test_t6_a_plain_request_succeeds_after_each(
    played: Played, record_property: RecordProperty, in_time: InTime
) -> None:
    played.check_afterwards(record_property, in_time)


def test_nothing_happened_that_belongs_to_no_case(played: Played) -> None:
    played.check_the_whole()
