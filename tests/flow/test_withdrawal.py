"""What is taken away ends what is open: {what is withdrawn} x {what is open} x {explicit listener, tunnel}.

Each cell asks the running gateway by its admin listener. What counts here is the order: once the withdrawal is
acknowledged, nothing more of what was open passes either way, whatever both ends still send. How long that takes is
measured in test_withdrawal_in_time.py.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from gateway.core.credential_cache import Credential, ResolveRequest
from gateway.credentials import CredentialSource
from sallyport.plan.codec import seal
from sallyport.secret import Secret
from sallyport.wire.websocket import REVOKED
from tests.support.gateway_plans import ORGANIZATION, SANDBOX, route
from tests.support.in_process import GatewayInProcess, in_process_gateway, origin_context, proxy_token, signed_token
from tests.support.passing_time import let_time_pass
from tests.support.plan_documents import plan_document, rule_document
from tests.support.raw_end import RawAnswer, RawEnd, RawOrigin, raw_origin
from tests.support.tunnel_client import OpeningRefused, TunnelClient
from tests.support.until import until

pytestmark = pytest.mark.uvloop

HOST: Final = "api.test"
MANAGED: Final = f"{HOST}:443"
OPEN: Final = "open.test:443"
PASSTHROUGH: Final = "passthrough; revision=1"
SECRET: Final = "canary-of-what-is-withdrawn"
GET: Final = b"GET /x HTTP/1.1\r\nHost: api.test\r\n"
POST: Final = b"POST /x HTTP/1.1\r\nHost: api.test\r\nContent-Length: 1000\r\n\r\n0123456789"
UPGRADE: Final = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
EVENTS: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
PING: Final = b"4\r\nping\r\n"

BY_TOKEN: Final = ("jti", "sid", "sandbox")
BY_CREDENTIAL: Final = ("connection", "binding")
BY_PLAN: Final = ("plan removed", "binding gone", "another organization")


# ---- who is there


class Source(CredentialSource):
    """Gives each version once told so, and keeps everybody waiting until then."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def resolve(self, request: ResolveRequest) -> Credential:
        self.asked += 1
        await self.may_answer.wait()
        return Credential(Secret(SECRET.encode()), None, f"v{self.asked}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A gateway with two sandboxes of two organizations, whose plans call everything alike."""

    gateway: GatewayInProcess
    origin: RawOrigin
    plain: RawOrigin
    opaque: RawOrigin
    source: Source
    tunnel: TunnelClient | None  # the way in; the explicit listener where there is none
    tunnel_token: str

    async def inside(self) -> RawEnd:
        """Return a stream of requests to the managed host, its TLS ended."""
        if self.tunnel is None:
            return await self.gateway.intercepted(MANAGED)
        return await self.tunnel.inside(MANAGED)

    async def through(self) -> RawEnd:
        """Return an opaque stream to a host that a rule lets pass."""
        if self.tunnel is None:
            return await self.gateway.open_tunnel(OPEN)
        return await self.tunnel.inside(OPEN, PASSTHROUGH)

    async def knock(self) -> RawEnd:
        """Ask for an opaque stream, and wait for nothing."""
        if self.tunnel is not None:
            return self.tunnel.connect(OPEN, PASSTHROUGH)
        client = await self.gateway.client()
        authorization = self.gateway.authorization
        client.send(f"CONNECT {OPEN} HTTP/1.1\r\nHost: {OPEN}\r\n".encode() + authorization + b"\r\n\r\n")
        return client

    async def ask_anew(self) -> RawAnswer | OpeningRefused:
        """Send a request as a sandbox would that has lost everything."""
        request = b"GET http://api.test/ HTTP/1.1\r\nHost: api.test\r\n"
        if self.tunnel is None:
            client = await self.gateway.client()
            client.send(request + self.gateway.authorization + b"\r\n\r\n")
            return await client.answer()
        tunnel = self.tunnel
        if not tunnel.tunnel.is_open:
            try:
                tunnel = await self.gateway.tunnel(token=self.tunnel_token)
            except OpeningRefused as refused:
                return refused
        return await tunnel.ask(request + b"\r\n").answer()

    @contextlib.contextmanager
    def as_neighbour(self) -> Iterator[None]:
        """Have requests carry the other sandbox's token."""
        token, self.gateway.token = self.gateway.token, proxy_token("sbx_two", organization_id="org_two")
        yield
        self.gateway.token = token

    async def admin(self, method: str, path: str, body: bytes = b"") -> RawAnswer:
        end = await RawEnd.dial(self.gateway.gateway.admin_port)
        end.send(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        try:
            head = (await end.head())[:-4]
            return RawAnswer(status=int(head.split(b" ")[1]), head=head, body=b"")
        finally:
            end.writer.transport.abort()

    async def withdraw(self, what: str) -> None:
        """Take something away, and return once the gateway has acknowledged it."""
        if what == "plan removed":
            answer = await self.admin("DELETE", f"/v1/sandboxes/{SANDBOX}/plan")
        elif what in PLANS:
            answer = await self.admin("PUT", f"/v1/sandboxes/{SANDBOX}/plan", PLANS[what])
        else:
            whose = ORGANIZATION if what in BY_CREDENTIAL else None
            answer = await self.revoke(what, self._names()[what], whose)
        assert answer.status in (200, 204), answer

    async def revoke(self, kind: str, name: str, organization_id: str | None) -> RawAnswer:
        order = {"kind": kind, "id": name, "until": 2_000_000_000, "organizationId": organization_id}
        return await self.admin("POST", "/v1/tokens/revoke", json.dumps(order).encode())

    def _names(self) -> dict[str, str]:
        parts = self.gateway.parts
        if self.tunnel is None:
            claims = parts.tokens.verify(self.gateway.token, parts.clock.wall)
        else:
            claims = parts.tunnel_tokens.verify(self.tunnel_token, parts.clock.wall)
        return {
            "jti": claims.token_id,
            "sid": claims.lineage,
            "sandbox": SANDBOX,
            "connection": "con_one",
            "binding": "bnd_one",
        }


def the_plan(
    revision: int = 1,
    *,
    sandbox_id: str = SANDBOX,
    organization_id: str = ORGANIZATION,
    hosts: tuple[str, ...] = (HOST,),
    allowed: str = "open.test",
) -> bytes:
    routes = [route("managed", hosts, "con_one", bindingId="bnd_one", allowCleartext=True)]
    rules = [rule_document("open", "allow", allowed)]
    document = plan_document(routes if hosts else [], rules, default="deny", revision=revision)
    return seal(document | {"sandboxId": sandbox_id, "organizationId": organization_id})


PLANS: Final = {
    "binding gone": the_plan(2, hosts=()),
    "host gone": the_plan(2, allowed="else.test"),
    "host managed": the_plan(2, hosts=(HOST, "open.test")),
    "another organization": the_plan(2, organization_id="org_two"),
    "another decision": the_plan(2, hosts=("moved.test",)),
}


@contextlib.asynccontextmanager
async def scene_of(folder: Path, way: str) -> AsyncIterator[Scene]:
    async with raw_origin(origin_context(HOST)) as origin, raw_origin() as plain, raw_origin() as opaque:
        ports = {MANAGED: origin.port, f"{HOST}:80": plain.port, OPEN: opaque.port}
        async with in_process_gateway(folder, plan=the_plan(), connect_to=ports) as gateway:
            gateway.parts.plans.apply(the_plan(sandbox_id="sbx_two", organization_id="org_two"))
            source = gateway.parts.credentials._source = Source()
            token = signed_token("sallyport-tunnel")
            tunnel = await gateway.tunnel(token=token) if way == "tunnel" else None
            yield Scene(
                gateway=gateway,
                origin=origin,
                plain=plain,
                opaque=opaque,
                source=source,
                tunnel=tunnel,
                tunnel_token=token,
            )


# ---- what is open


async def answered(scene: Scene) -> tuple[RawEnd, RawEnd]:
    """An idle stream, and its idle link."""
    end = await scene.inside()
    end.send(GET + b"\r\n")
    link = await scene.origin.link()
    await link.head()
    link.send(OK)
    assert (await end.answer()).body == b"ok"
    await until(lambda: scene.gateway.parts.upstreams.state.idle == 1)
    return end, link


async def asked(scene: Scene) -> tuple[RawEnd, RawEnd]:
    """A request that the origin has, and no answer."""
    end = await scene.inside()
    end.send(GET + b"\r\n")
    link = await scene.origin.link()
    assert SECRET.encode() in await link.head()
    return end, link


async def uploading(scene: Scene) -> tuple[RawEnd, RawEnd]:
    """A request whose body is on its way."""
    end = await scene.inside()
    end.send(POST)
    link = await scene.origin.link()
    await link.until(b"0123456789")
    return end, link


async def answering(scene: Scene) -> tuple[RawEnd, RawEnd]:
    """An answer of which a part has passed."""
    end, link = await asked(scene)
    link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n0123456789")
    await end.until(b"0123456789")
    return end, link


async def events(scene: Scene) -> tuple[RawEnd, RawEnd]:
    """An event stream."""
    end, link = await asked(scene)
    link.send(EVENTS + PING)
    await end.until(PING)
    return end, link


async def upgraded(scene: Scene) -> tuple[RawEnd, RawEnd]:
    """A WebSocket."""
    end = await scene.inside()
    end.send(GET + UPGRADE)
    link = await scene.origin.link()
    await link.head()
    link.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert (await end.head()).startswith(b"HTTP/1.1 101 ")
    end.send(b"up")
    assert await link.exactly(2) == b"up"
    return end, link


async def awaiting_a_credential(scene: Scene) -> tuple[RawEnd, None]:
    scene.source.may_answer.clear()
    end = await scene.inside()
    end.send(GET + b"\r\n")
    await until(lambda: scene.source.asked == 1)
    return end, None


async def awaiting_a_link(scene: Scene) -> tuple[RawEnd, None]:
    dialled = never_connects(scene)
    end = await scene.inside()
    end.send(GET + b"\r\n")
    await dialled.wait()
    return end, None


async def after_a_401(scene: Scene) -> tuple[RawEnd, RawEnd]:
    """A request that was refused upstream, while a newer credential is asked for."""
    end, link = await asked(scene)
    scene.source.may_answer.clear()
    link.send(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno")
    await until(lambda: scene.source.asked == 2)
    return end, link


async def opaque(scene: Scene) -> tuple[RawEnd, RawEnd]:
    """A passthrough stream."""
    end = await scene.through()
    link = await scene.opaque.link()
    end.send(b"up")
    assert await link.exactly(2) == b"up"
    link.send(b"down")
    assert await end.exactly(4) == b"down"
    return end, link


async def opaque_dialling(scene: Scene) -> tuple[RawEnd, None]:
    dialled = never_connects(scene)
    end = await scene.knock()
    await dialled.wait()
    return end, None


async def opaque_silent(scene: Scene) -> tuple[RawEnd, RawEnd]:
    """A passthrough stream of which nobody has said anything."""
    end = await scene.through()
    return end, await scene.opaque.link()


def never_connects(scene: Scene) -> asyncio.Event:
    dialled = asyncio.Event()

    async def never(factory: object, address: str, port: int) -> tuple[asyncio.Transport, asyncio.Protocol]:
        dialled.set()
        await asyncio.Event().wait()
        raise AssertionError

    scene.gateway.parts.dialer._connect = never
    return dialled


type Opened = Callable[[Scene], Awaitable[tuple[RawEnd, RawEnd | None]]]

EXCHANGES: tuple[Opened, ...] = (
    asked,
    uploading,
    answering,
    events,
    upgraded,
    awaiting_a_credential,
    awaiting_a_link,
    after_a_401,
)
OPAQUE: tuple[Opened, ...] = (opaque, opaque_dialling, opaque_silent)

CELLS: list[tuple[str, Opened]] = [
    *((what, state) for state in EXCHANGES for what in (*BY_TOKEN, *BY_CREDENTIAL, *BY_PLAN)),
    *((what, state) for state in OPAQUE for what in (*BY_TOKEN, "plan removed", "host gone", "host managed")),
    *(("another organization", state) for state in OPAQUE),
    *((what, answered) for what in (*BY_TOKEN, "another organization")),
]

# Those that take the same way through the code as another one are in the long set, save for one state each.
ALIKE: Final = ("jti", "sid", "binding")


def cell(what: str, state: Opened) -> object:
    marks = pytest.mark.full if what in ALIKE and state is not events else ()
    return pytest.param(what, state, id=f"{what}-{state.__name__}", marks=marks)


REFUSED: Final = {
    **dict.fromkeys(BY_TOKEN, 407),
    **dict.fromkeys(BY_CREDENTIAL, 502),
    "plan removed": 503,
    "binding gone": 403,
    "another organization": 407,
}


@pytest.mark.parametrize("way", ["explicit", "tunnel"])
@pytest.mark.parametrize(("what", "opened"), [cell(*each) for each in CELLS])
async def test_once_it_is_acknowledged_nothing_more_passes(tmp_path: Path, what: str, opened: Opened, way: str) -> None:
    async with scene_of(tmp_path, way) as scene:
        neighbour, its_link = await neighbour_of(scene)
        end, link = await opened(scene)
        await scene.withdraw(what)
        if link is not None:
            link.send(b"after the withdrawal")
        scene.source.may_answer.set()
        end.send(b"after the withdrawal")
        assert await end.gone() == b""
        assert link is None or await link.gone() == b""
        if scene.tunnel is not None:
            is_ended = what in BY_TOKEN or what == "another organization"
            assert (scene.tunnel.lost and scene.tunnel.lost[0]) == (REVOKED if is_ended else None)
        await said_why(scene, opened)
        if what in REFUSED:
            await refused(scene, what)
        its_link.send(PING)
        assert await neighbour.until(PING) == PING


async def neighbour_of(scene: Scene) -> tuple[RawEnd, RawEnd]:
    """Open an event stream of the other sandbox, which has the same hosts and rules."""
    client = await scene.gateway.client()
    with scene.as_neighbour():
        client.send(scene.gateway.request("http://api.test/events"))
    link = await scene.plain.link()
    await link.head()
    link.send(EVENTS + PING)
    await client.until(PING)
    scene.source.asked = 0
    return client, link


async def said_why(scene: Scene, opened: Opened) -> None:
    if opened is answered:
        return
    async with asyncio.timeout(5):
        while not (records := [each for each in scene.gateway.audit.entries if each["sandboxId"] == SANDBOX]):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert [record["code"] for record in records] == ["authority_withdrawn"]
    assert scene.gateway.metric('sallyport_denied_total{code="authority_withdrawn"}') == 1


async def refused(scene: Scene, what: str) -> None:
    """Whoever comes again gets nothing, and the origin does not hear of it."""
    answer = await scene.ask_anew()
    if isinstance(answer, OpeningRefused):
        assert (REFUSED[what], answer.answer.status) == (407, 401)
    else:
        assert answer.status == REFUSED[what]
    assert all(origin._waiting.empty() for origin in (scene.origin, scene.plain, scene.opaque))


# ---- links


@pytest.mark.parametrize("way", ["explicit", "tunnel"])
@pytest.mark.parametrize("what", [*BY_CREDENTIAL, *BY_PLAN])
async def test_the_idle_link_goes_with_what_it_was_opened_for(tmp_path: Path, what: str, way: str) -> None:
    async with scene_of(tmp_path, way) as scene:
        end, link = await answered(scene)
        await scene.withdraw(what)
        assert await link.gone() == b""
        assert scene.gateway.parts.upstreams.state.idle == 0
        await refused(scene, what)
        if what != "another organization":  # of which the tokens are no good any more
            end.send(GET + b"\r\n")
            answer = await end.answer()
            assert answer.status == REFUSED[what]
        assert scene.origin._waiting.empty()


@pytest.mark.parametrize("way", ["explicit", "tunnel"])
@pytest.mark.parametrize(("kind", "name"), [("connection", "con_one"), ("binding", "bnd_one")])
async def test_c12_the_neighbours_link_and_credential_stay_and_go_by_an_order_about_all(
    tmp_path: Path, kind: str, name: str, way: str
) -> None:
    """Two organizations call theirs alike: an order that names one is about that one, else about both."""
    async with scene_of(tmp_path, way) as scene:
        neighbour, its_link = await neighbour_of(scene)
        its_link.send(b"0\r\n\r\n")
        await neighbour.until(b"0\r\n\r\n")
        parts = scene.gateway.parts
        await until(lambda: parts.upstreams.state.idle == 1)
        await scene.withdraw(kind)
        assert (parts.upstreams.state.idle, len(parts.credentials)) == (1, 1)
        await refused(scene, kind)
        with scene.as_neighbour():
            neighbour.send(scene.gateway.request("http://api.test/again"))
            assert SECRET.encode() in await its_link.head()
            its_link.send(EVENTS + PING)
            await neighbour.until(PING)
            assert (await scene.revoke(kind, name, None)).status == 200
            assert await neighbour.gone() == b""
            assert await its_link.gone() == b""
            assert len(parts.credentials) == 0
            again = await scene.gateway.client()
            again.send(scene.gateway.request("http://api.test/again"))
            assert (await again.answer()).status == 502


# ---- what goes on


@pytest.mark.parametrize("way", ["explicit", "tunnel"])
@pytest.mark.parametrize("opened", [asked, events, upgraded], ids=lambda state: state.__name__)
async def test_t2_a_request_outlives_a_plan_that_keeps_its_binding(tmp_path: Path, opened: Opened, way: str) -> None:
    """The route is gone, its binding is not: what was begun finishes on the table it read."""
    async with scene_of(tmp_path, way) as scene:
        end, link = await opened(scene)
        assert link is not None
        await scene.withdraw("another decision")
        said = OK if opened is asked else PING
        link.send(said)
        await end.until(b"ok" if opened is asked else PING)


@pytest.mark.parametrize("way", ["explicit", "tunnel"])
async def test_an_opaque_stream_outlives_a_plan_that_lets_it_pass(tmp_path: Path, way: str) -> None:
    async with scene_of(tmp_path, way) as scene:
        end, link = await opaque(scene)
        await scene.withdraw("binding gone")
        link.send(b"more")
        assert await end.exactly(4) == b"more"


# ---- tokens that end by themselves


class Ahead:
    """The machine's clock, some seconds on."""

    seconds = 0.0

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(time, "time", self.time)

    def time(self) -> float:
        return time.time_ns() / 1e9 + self.seconds


@pytest.mark.parametrize("opened", [opaque, opaque_silent, upgraded], ids=lambda state: state.__name__)
async def test_c10_opaque_bytes_end_with_their_token(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene_of(tmp_path, "explicit") as scene:
        scene.gateway.token = proxy_token(ttl_seconds=60)
        end, link = await opened(scene)
        assert link is not None
        clock = scene.gateway.parts.clock
        ahead = Ahead(monkeypatch)
        let_time_pass(clock, 59)
        link.send(b"more")
        assert await end.exactly(4) == b"more"
        let_time_pass(clock, 61)  # though not on the wall: the machine's clock was set back
        assert await end.is_quiet()
        ahead.seconds = 61
        let_time_pass(clock, 122)
        assert await end.gone() == b""
        assert await link.gone() == b""
        (record,) = await scene.gateway.audit.until(1)
        assert record["code"] == "authority_withdrawn"


async def test_c10_a_renewed_tunnel_keeps_its_opaque_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene_of(tmp_path, "tunnel") as scene:
        end, link = await opaque(scene)
        parts = scene.gateway.parts
        host = parts.tunnels.current(SANDBOX)
        assert host is not None
        later = parts.tunnel_tokens.verify(signed_token("sallyport-tunnel", ttl_seconds=7200), parts.clock.wall)
        host._extend(later)
        ahead = Ahead(monkeypatch)
        ahead.seconds = 3700
        let_time_pass(parts.clock, 600)
        (stream,) = [each for each in parts.streams.of_sandbox(SANDBOX) if each is not host]
        stream.expire()  # type: ignore[attr-defined]  # the first token's end
        link.send(b"more")
        assert await end.exactly(4) == b"more"
        ahead.seconds = 7300
        let_time_pass(parts.clock, 1200)
        stream.expire()  # type: ignore[attr-defined]
        assert await end.gone() == b""
