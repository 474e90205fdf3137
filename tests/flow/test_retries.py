"""What is sent once more, and what is not: a 401 (C9), a pooled link that dies (A7); and silence that passes on (A1).

A real gateway under a control plane that gives credentials, by the explicit listener and by a tunnel. Each case has a
path, a connection and so a pool of its own; its origin answers by a script and keeps every request it was sent.
"""

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sallyport.net.clock import Clock
from sallyport.plan.codec import seal
from tests.support.background import in_background
from tests.support.egress_ways import WAYS, connect_head, established
from tests.support.fake_control import FakeControl, fake_control
from tests.support.gateway_plans import SANDBOX, route
from tests.support.gateway_process import GatewayProcess
from tests.support.in_process import proxy_token, signed_token, signing_jwk
from tests.support.plan_documents import plan_document, rule_document
from tests.support.raw_end import RawEnd
from tests.support.several_processes import Several, controlled
from tests.support.tunnel_client import TunnelClient, dial_tunnel

pytestmark = pytest.mark.uvloop

RESOLVE = "/internal/integration-credentials/resolve"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
NO = b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: x\r\nContent-Length: 2\r\n\r\nno"
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
DIES = b""
GREETING = b"220 ready\r\n"


@dataclass(frozen=True, slots=True)
class Seen:
    """A request at the origin: its link, its head, the credential in it."""

    link: int
    head: bytes
    credential: bytes


@dataclass(slots=True)
class ScriptedOrigin:
    """Answers each path by its script, then with OK; behind no answer, or a part of one, the link is closed."""

    scripts: dict[str, deque[bytes]] = field(default_factory=dict)
    seen: dict[str, list[Seen]] = field(default_factory=dict)
    links: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.links += 1
        link = self.links
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
                await reader.readexactly(int(fields.get(b"Content-Length", b"0")))
                path = head.split(b" ")[1].decode()
                self.seen.setdefault(path, []).append(Seen(link, head, fields[b"Authorization"]))
                script = self.scripts.get(path)
                answer = script.popleft() if script else OK
                writer.write(answer)
                if answer in (DIES, EARLY):
                    return

    async def greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Speak first, as mail servers do, and give back what comes."""
        writer.write(GREETING)
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Requests of one stream, the script of their answers, and what came of them."""

    name: str
    script: Sequence[bytes]
    requests: Sequence[bytes]
    statuses: Sequence[int]
    credentials: Sequence[int]  # the version in each request that the origin saw
    asked: int = 1  # how often the credential was fetched
    links: int = 1
    newer: int = 1  # the version that the control plane gives after the first request; 0: it refuses
    code: str = ""  # of the last answer, where it is the gateway's own

    def __str__(self) -> str:
        return self.name


GET, POST, PUT = b"GET", b"POST", b"PUT"

C9 = [
    Case(
        name="a newer credential, and it is good",
        script=(OK, NO, OK),
        requests=(GET, GET),
        statuses=(200, 200),
        credentials=(1, 1, 2),
        asked=2,
        links=2,
        newer=2,
    ),
    Case(
        name="a newer credential, refused as well",
        script=(OK, NO, NO),
        requests=(GET, GET, GET),
        statuses=(200, 401, 200),
        credentials=(1, 1, 2, 2),
        asked=2,
        links=2,
        newer=2,
    ),
    Case(
        name="the same credential",
        script=(OK, NO),
        requests=(GET, GET, GET),
        statuses=(200, 401, 200),
        credentials=(1, 1, 1),
        asked=2,
    ),
    Case(
        name="asked once in 30 seconds",
        script=(OK, NO, NO),
        requests=(GET, GET, GET),
        statuses=(200, 401, 401),
        credentials=(1, 1, 1),
        asked=2,
    ),
    Case(
        name="no credential any more, and then the next request has none",
        script=(OK, NO),
        requests=(GET, GET, GET),
        statuses=(200, 401, 502),
        credentials=(1, 1),
        asked=2,
        newer=0,
        code="credential_unavailable",
    ),
    *(
        Case(
            name=f"{method.decode()} is not repeated, and the next has the newer one",
            script=(OK, NO),
            requests=(GET, method, GET),
            statuses=(200, 401, 200),
            credentials=(1, 1, 2),
            asked=2,
            newer=2,
        )
        for method in (POST, PUT)
    ),
    Case(
        name="something of the answer has passed",
        script=(OK, EARLY + NO),
        requests=(GET, GET, GET),
        statuses=(200, 401, 200),
        credentials=(1, 1, 2),
        asked=2,
        newer=2,
    ),
    Case(
        name="the link dies after the 401, and nothing is sent a third time",
        script=(OK, NO, DIES),
        requests=(GET, GET),
        statuses=(200, 502),
        credentials=(1, 1, 2),
        asked=2,
        links=2,
        newer=2,
        code="upstream_unreachable",
    ),
]

A7 = [
    *(
        Case(
            name=f"{method.decode()} is sent once more on a fresh link",
            script=(OK, DIES, EMPTY),
            requests=(GET, method),
            statuses=(200, 200),
            credentials=(1, 1, 1),
            links=2,
        )
        for method in (GET, b"HEAD", b"OPTIONS", b"DELETE")
    ),
    Case(
        name="twice and no more",
        script=(OK, DIES, DIES),
        requests=(GET, GET),
        statuses=(200, 502),
        credentials=(1, 1, 1),
        links=2,
        code="upstream_unreachable",
    ),
    Case(
        name="a fresh link that dies",
        script=(DIES,),
        requests=(GET,),
        statuses=(502,),
        credentials=(1,),
        code="upstream_unreachable",
    ),
    *(
        Case(
            name=f"{method.decode()} is not repeated",
            script=(OK, DIES),
            requests=(GET, method),
            statuses=(200, 502),
            credentials=(1, 1),
            code="upstream_unreachable",
        )
        for method in (POST, PUT)
    ),
    Case(
        name="a pooled link that dies behind a part of an answer",
        script=(OK, EARLY),
        requests=(GET, GET),
        statuses=(200, 502),
        credentials=(1, 1),
        code="upstream_unreachable",
    ),
    Case(
        name="a 401 on the second link is passed on",
        script=(OK, DIES, NO),
        requests=(GET, GET),
        statuses=(200, 401),
        credentials=(1, 1, 1),
        links=2,
        newer=2,
    ),
]


# ---- who is there


def name_of(case: Case, way: str) -> str:
    return f"{(*C9, *A7).index(case)}-{way}"


def credential(name: str, version: int) -> dict[str, object]:
    return {"kind": "value", "value": f"canary-{name}-{version}", "version": str(version)}


def the_plan() -> bytes:
    names = [name_of(case, way) for case in (*C9, *A7) for way in WAYS]
    routes = [
        route(
            f"route-{name}",
            [],
            f"con_{name}",
            bindingId=f"bnd_{name}",
            match={"hosts": ["api.test"], "pathPrefixes": [f"/{name}"]},
            allowCleartext=True,
        )
        for name in names
    ]
    rules = [rule_document("open", "allow", "open.test"), rule_document("address", "allow", "127.0.0.2")]
    return seal(plan_document(routes, rules, default="deny"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The gateway, and both that it speaks to."""

    several: Several
    control: FakeControl
    origin: ScriptedOrigin


@contextlib.asynccontextmanager
async def site_in(folder: Path) -> AsyncIterator[Site]:
    origin = ScriptedOrigin()
    async with contextlib.AsyncExitStack() as opened:
        servers = [await asyncio.start_server(serve, "127.0.0.1", 0) for serve in (origin.serve, origin.greet)]
        for server in servers:
            opened.push_async_callback(server.wait_closed)
            opened.callback(server.close)
        api, greeting = (server.sockets[0].getsockname()[1] for server in servers)
        control = await opened.enter_async_context(fake_control())
        control.keys = [{**signing_jwk(), "use": "sig"}]
        control.plans[SANDBOX] = the_plan()
        settings = {
            "url": control.url,
            "token_file": str(control.token_file(folder)),
            "gateway_id": "gw_retries",
            "state_dir": str(folder / "state"),
        }
        ports = {"api.test:80": api, "open.test:443": greeting, "127.0.0.2:443": greeting}
        several = await opened.enter_async_context(controlled(folder, settings, ports, workers=1))
        await several.until(several.is_ready)
        yield Site(several=several, control=control, origin=origin)
        assert b"canary" not in several.gateway.log


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with in_background(site_in(tmp_path_factory.mktemp("retries"))) as site:
        yield site


class Way:
    """One way in."""

    def __init__(self, gateway: GatewayProcess, tunnel: TunnelClient | None) -> None:
        self._gateway = gateway
        self._tunnel = tunnel
        self._token = f"Proxy-Authorization: Bearer {proxy_token()}\r\n".encode()
        self._ends: list[RawEnd] = []

    async def open(self, request: bytes, declared: str) -> RawEnd:
        """Send a request on a new stream; what says whose it is goes in behind its first line."""
        if self._tunnel is not None:
            end = self._tunnel.ask(request, declared)
        else:
            end = await RawEnd.dial(self._gateway.proxy_port)
            self.send(end, request)
        self._ends.append(end)
        return end

    def send(self, end: RawEnd, request: bytes) -> None:
        """Send a further request on a stream."""
        first, _, rest = request.partition(b"\r\n")
        end.send(first + b"\r\n" + (b"" if self._tunnel else self._token) + rest)

    async def opaque(self, authority: str) -> RawEnd:
        """CONNECT to what passes through, and read its 200."""
        end = await self.open(connect_head(authority), "passthrough; revision=1")
        await established(end)
        return end

    def close(self) -> None:
        for end in self._ends:
            end.writer.transport.abort()


@contextlib.asynccontextmanager
async def way_into(site: Site, way: str) -> AsyncIterator[Way]:
    with contextlib.ExitStack() as opened:
        gateway, tunnel = site.several.gateway, None
        if way == "tunnel":
            clock = Clock(asyncio.get_running_loop())
            opened.callback(clock.close)
            tunnel = await dial_tunnel(clock, gateway.tunnel_port, signed_token("sallyport-tunnel"))
            opened.callback(tunnel.abort)
            await tunnel.message("interception.set")
        yield opened.enter_context(contextlib.closing(Way(gateway, tunnel)))


def audited(site: Site) -> list[dict[str, Any]]:
    lines = (site.several.gateway.folder / "audit.jsonl").read_text().split("\n")[:-1]  # the last may be half written
    return [json.loads(line) for line in lines]


# ---- C9, A7


async def play(site: Site, case: Case, way: str) -> None:
    name = name_of(case, way)
    path, connection_id = f"/{name}", f"con_{name}"
    site.control.credentials[connection_id] = credential(name, 1)
    site.origin.scripts[path] = deque(case.script)
    async with way_into(site, way) as into:
        answers, end = [], None
        for number, method in enumerate(case.requests):
            body = b"Content-Length: 2\r\n\r\nhi" if method in (POST, PUT) else b"\r\n"
            request = method + f" http://api.test{path} HTTP/1.1\r\nHost: api.test\r\n".encode() + body
            if end is None:
                end = await into.open(request, "plain; revision=1")
            else:
                into.send(end, request)
            while (answer := await end.answer(method.decode())).status < 200:
                pass
            answers.append(answer)
            if number == 0 and case.newer != 1:
                if case.newer:
                    site.control.credentials[connection_id] = credential(name, case.newer)
                else:
                    del site.control.credentials[connection_id]
    assert [answer.status for answer in answers] == list(case.statuses)
    seen = site.origin.seen[path]
    expected = [f"Bearer canary-{name}-{version}".encode() for version in case.credentials]
    assert [each.credential for each in seen] == expected
    assert len({each.link for each in seen}) == case.links
    asked = [each for each in site.control.bodies(RESOLVE) if each["connectionId"] == connection_id]
    assert len(asked) == case.asked
    if case.code:
        problem = json.loads(answers[-1].body)
        assert (problem["code"], problem["retryable"]) == (case.code, case.code == "upstream_unreachable")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", C9, ids=str)
async def test_c9_a_401_is_tried_once_with_a_newer_credential(site: Site, case: Case, way: str) -> None:
    await play(site, case, way)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", A7, ids=str)
async def test_a7_a_pooled_link_that_dies_is_replaced_once(site: Site, case: Case, way: str) -> None:
    await play(site, case, way)


async def test_each_request_has_one_record_however_often_it_was_sent(site: Site) -> None:
    played = [
        (name_of(case, way), case)
        for case in (*C9, *A7)
        for way in WAYS
        if f"/{name_of(case, way)}" in site.origin.seen
    ]

    def recorded(name: str) -> list[object]:
        return [each["status"] for each in audited(site) if each.get("egressRuleId") == f"route-{name}"]

    await site.several.until(lambda: all(len(recorded(name)) >= len(case.requests) for name, case in played))
    assert {name: recorded(name) for name, _ in played} == {name: list(case.statuses) for name, case in played}


# ---- A1


@pytest.mark.parametrize("way", WAYS)
async def test_a1_silence_passes_to_a_name_and_not_to_an_address(site: Site, way: str) -> None:
    async with way_into(site, way) as into:
        named, addressed = await into.opaque("open.test:443"), await into.opaque("127.0.0.2:443")
        # The server speaks first. What comes after that is nobody's to look at, nor a hello that names nothing.
        assert await named.until(b"\r\n") == GREETING
        named.send(b"\x16\x03\x01 no hello")
        assert await named.until(b"no hello") == b"\x16\x03\x01 no hello"
        assert await addressed.gone() == b""

    def recorded() -> list[tuple[object, object, object]]:
        """Return what was recorded of this way's opaque streams."""
        opaque = [each for each in audited(site) if (each["mode"], each["source"]) == ("passthrough", way)]
        return [(each["host"], each.get("egressRuleId"), each.get("code")) for each in opaque]

    await site.several.until(lambda: len(recorded()) == 2)
    assert sorted(recorded(), key=str) == [("127.0.0.2", None, "sni_mismatch"), ("open.test", "open", None)]
