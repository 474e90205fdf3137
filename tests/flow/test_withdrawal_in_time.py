"""Within a second of the order nothing is left of what was withdrawn: real processes, one and two, both ways to order.

test_withdrawal.py looks at each state alone and at the order of things; here everything is open at once, and the time
is measured, from before the order was given to the end of the last stream and link.
"""

import asyncio
import base64
import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from demo.certificates import write_origin_files
from sallyport.net.clock import Clock
from sallyport.plan.codec import seal
from tests.support.egress_ways import connect_head, established
from tests.support.fake_control import authority_document, fake_control
from tests.support.figures import figure
from tests.support.gateway_plans import ORGANIZATION, route
from tests.support.gateway_process import Setting, gateway_process
from tests.support.in_process import proxy_token, signed_token, signing_jwk
from tests.support.plan_documents import plan_document, rule_document
from tests.support.raw_end import RawEnd, RawOrigin, raw_origin
from tests.support.sandbox_end import SandboxEnd
from tests.support.several_processes import Several, controlled
from tests.support.tls_by_hand import trusting
from tests.support.tunnel_client import TunnelClient

pytestmark = [pytest.mark.full, pytest.mark.timeout(180), pytest.mark.uvloop]

WITHDRAWN = ("jti", "sid", "sandbox", "connection", "binding", "plan removed", "binding gone", "host gone")
# What ends opaque streams, too; the others end what carries a credential. The last ends nothing but opaque streams.
OF_OPAQUE = ("jti", "sid", "sandbox", "plan removed", "host gone")
# And these what the admin listener has open into the sandbox.
OF_INWARD = ("jti", "sid", "sandbox", "plan removed")
# An idle link goes with what it was opened for: a connection, or where it carried no credential the sandbox.
OF_IDLE = ("connection", "binding", "plan removed", "binding gone")
OF_IDLE_OWN = ("jti", "sid", "sandbox", "plan removed")
WITHIN_SECONDS = 1.0
UNTIL = 2_000_000_000
SECRET = "canary-of-the-second"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nping\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
UPGRADE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET / HTTP/1.1\r\nHost: api.test\r\n"
# What is idle stays so for as long as the test takes.
TIMEOUTS = {"pool_idle": "10m", "keep_alive": "10m"}
# The kernel spreads connections by chance: so many are at both processes, or one has none worth speaking of.
STREAMS = 6


def names_of(number: int) -> tuple[str, str, str]:
    return f"sbx_{number}", f"con_{number}", f"bnd_{number}"


def the_plan(number: int, *, revision: int = 1, has_binding: bool = True, allowed: str = "open.test") -> bytes:
    sandbox_id, connection_id, binding_id = names_of(number)
    routes = [route("managed", ["api.test"], connection_id, bindingId=binding_id, allowCleartext=True)]
    endpoint = {"endpointKey": "ws", "transport": {"type": "ws", "url": "ws://127.0.0.1:4500/"}}
    client = {"clientId": "agent", "setup": {"env": {}, "files": []}, "processes": []}
    document = plan_document(
        routes if has_binding else [],
        [rule_document("open", "allow", allowed)],
        default="deny",
        revision=revision,
        runtimeClients=[client | {"endpoints": [endpoint | {"connectionMode": "shared"}]}],
    )
    return seal(document | {"sandboxId": sandbox_id, "organizationId": ORGANIZATION})


@dataclass(frozen=True, slots=True, kw_only=True)
class Origins:
    """The managed host in the clear and by TLS, and the one that is allowed, in the clear and opaque."""

    api: RawOrigin
    tls: RawOrigin
    own: RawOrigin
    opaque: RawOrigin
    ca_file: Path

    @property
    def ports(self) -> dict[str, int]:
        """Where a gateway is to find them."""
        return {
            "api.test:80": self.api.port,
            "api.test:443": self.tls.port,
            "open.test:80": self.own.port,
            "open.test:443": self.opaque.port,
        }


@contextlib.asynccontextmanager
async def all_origins(folder: Path) -> AsyncIterator[Origins]:
    files = write_origin_files(folder, ["api.test"])
    plain, tls = raw_origin, raw_origin(files.server_context())
    async with plain() as api, tls as managed, plain() as own, plain() as opaque:
        yield Origins(api=api, tls=managed, own=own, opaque=opaque, ca_file=files.ca_file)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """A gateway, its origins, and whoever gives it orders."""

    several: Several
    origins: Origins
    clock: Clock
    token: Callable[[str, str], str]
    publish: Callable[[bytes], Awaitable[None]]
    push: Callable[[bytes], Awaitable[None]]  # as publish, and nobody waits until it is taken
    remove: Callable[[str], Awaitable[None]]
    revoke: Callable[[str, str], Awaitable[None]]


@contextlib.asynccontextmanager
async def by_admin(folder: Path, workers: int, origins: Origins, clock: Clock) -> AsyncIterator[Stand]:
    setting = Setting(
        plan=the_plan(len(WITHDRAWN)),
        credentials={names_of(number)[1]: f"{SECRET}-{number}" for number in range(len(WITHDRAWN) + 1)},
        connect_to={here: f"127.0.0.1:{port}" for here, port in origins.ports.items()},
        ca_file=origins.ca_file,
        further={"timeouts": TIMEOUTS},
        workers=workers,
    )
    entered = gateway_process(folder, setting)
    gateway = await asyncio.to_thread(entered.__enter__)
    try:
        with contextlib.closing(Several(gateway)) as several, contextlib.ExitStack() as pushing:

            async def order(method: str, path: str, document: object = None) -> None:
                status, answer = await several.ask(method, path, document)
                assert status in (200, 204), answer

            async def publish(document: bytes) -> None:
                sandbox_id = json.loads(document)["sandboxId"]
                await order("PUT", f"/v1/sandboxes/{sandbox_id}/plan", document)

            async def push(document: bytes) -> None:
                target = f"/v1/sandboxes/{announced(document)['sandboxId']}/plan"
                head = f"PUT {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(document)}\r\n\r\n"
                end = await RawEnd.dial(gateway.admin_port)
                pushing.callback(end.abort)
                end.send(head.encode() + document)
                await end.flush()

            async def remove(sandbox_id: str) -> None:
                await order("DELETE", f"/v1/sandboxes/{sandbox_id}/plan")

            async def revoke(kind: str, name: str) -> None:
                await order("POST", "/v1/tokens/revoke", {"kind": kind, "id": name, "until": UNTIL})

            yield Stand(
                several=several,
                origins=origins,
                clock=clock,
                token=lambda audience, sandbox_id: gateway.mint_token(audience, sandbox_id=sandbox_id),
                publish=publish,
                push=push,
                remove=remove,
                revoke=revoke,
            )
    finally:
        await asyncio.to_thread(entered.__exit__, None, None, None)


@contextlib.asynccontextmanager
async def by_watch(folder: Path, workers: int, origins: Origins, clock: Clock) -> AsyncIterator[Stand]:
    async with fake_control() as control:
        control.keys = [{**signing_jwk(), "use": "sig"}]
        for number in range(len(WITHDRAWN)):
            value = {"kind": "value", "value": f"{SECRET}-{number}", "version": "1"}
            control.credentials[names_of(number)[1]] = value
            sandbox_id = names_of(number)[0]
            control.authorities[sandbox_id] = authority_document(folder / "authorities", sandbox_id)
        settings = {
            "url": control.url,
            "token_file": str(control.token_file(folder)),
            "gateway_id": "gw_in_time",
            "state_dir": str(folder / "state"),
        }
        async with controlled(
            folder, settings, origins.ports, workers=workers, ca_file=origins.ca_file, timeouts=TIMEOUTS
        ) as several:
            await several.until(several.is_ready)

            async def revoke(kind: str, name: str) -> None:
                await control.revoke(kind, name, UNTIL)

            async def push(document: bytes) -> None:
                plan = announced(document)
                control.plans[str(plan["sandboxId"])] = document
                await control.tell("plan", plan)

            yield Stand(
                several=several,
                origins=origins,
                clock=clock,
                token=lambda audience, sandbox_id: (
                    proxy_token(sandbox_id) if audience == "sallyport-proxy" else signed_token(audience, sandbox_id)
                ),
                publish=control.publish,
                push=push,
                remove=control.remove,
                revoke=revoke,
            )


# ---- everything that can be open


@dataclass(slots=True)
class Open:
    """The ends of what is open, the sandbox's and the origin's, by what they carry; and the tokens they were shown."""

    injected: list[RawEnd] = field(default_factory=list)
    opaque: list[RawEnd] = field(default_factory=list)
    idle: list[RawEnd] = field(default_factory=list)  # of the connection: the links alone
    idle_own: list[RawEnd] = field(default_factory=list)  # and of the sandbox
    inward: list[RawEnd] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    tunnel: TunnelClient | None = None

    def abort(self) -> None:
        """End all of it: what was only half closed, and an idle tunnel, would hold up the drain."""
        if self.tunnel is not None:
            self.tunnel.abort()
        for end in self.injected + self.opaque + self.inward + self.idle + self.idle_own:
            end.writer.transport.abort()

    def taken_by(self, what: str) -> list[RawEnd]:
        """Return the ends of what a withdrawal ends."""
        ends = [] if what == "host gone" else self.injected
        ends = ends + (self.opaque if what in OF_OPAQUE else [])
        ends = ends + (self.inward if what in OF_INWARD else [])
        return ends + self.idle_taken_by(what)

    def idle_taken_by(self, what: str) -> list[RawEnd]:
        return (self.idle if what in OF_IDLE else []) + (self.idle_own if what in OF_IDLE_OWN else [])


async def open_everything(stand: Stand, number: int) -> Open:
    sandbox_id, *_ = names_of(number)
    proxy, tunnel_token = (stand.token(audience, sandbox_id) for audience in ("sallyport-proxy", "sallyport-tunnel"))
    opened = Open(tokens=[proxy, tunnel_token])
    authorization = f"Proxy-Authorization: Bearer {proxy}\r\n".encode()
    tunnel, _ = await stand.several.tunnel(stand.clock, tunnel_token)
    opened.tunnel = tunnel
    await tunnel.message("interception.set")
    trust = trusting(await authority_of(stand, authorization), "http/1.1")
    get, upgrade = (b"GET http://api.test/ HTTP/1.1\r\nHost: api.test\r\n" + lines for lines in (b"", UPGRADE))
    connect = b"CONNECT open.test:443 HTTP/1.1\r\nHost: open.test:443\r\n"
    for asked in (get, upgrade):
        for _ in range(STREAMS):
            client = await stand.several.client()
            client.send(asked + authorization + b"\r\n")
            await begin(stand.origins.api, opened, client, is_upgrade=asked is upgrade)
        await begin(stand.origins.api, opened, tunnel.ask(asked + b"\r\n"), is_upgrade=asked is upgrade)
    for _ in range(STREAMS):
        client = await stand.several.client()
        client.send(connect + authorization + b"\r\n")
        await pass_through(stand, opened, client)
    await pass_through(stand, opened, tunnel.connect("open.test:443", "passthrough; revision=1"))
    inside = [await intercepted(stand, authorization, trust) for _ in range(STREAMS)]
    for client in (*inside, await tunnel.inside("api.test:443")):
        client.send(GET + b"\r\n")
        await begin(stand.origins.tls, opened, client, is_upgrade=False)
    inside = [await intercepted(stand, authorization, trust) for _ in range(STREAMS)]
    opened.idle += await leave_idle(stand.origins.tls, inside, GET + b"\r\n")
    asked = b"GET http://open.test/ HTTP/1.1\r\nHost: open.test\r\n" + authorization + b"\r\n"
    opened.idle_own += await leave_idle(
        stand.origins.own, [await stand.several.client() for _ in range(STREAMS)], asked
    )
    await reach_in(stand, opened, SandboxEnd(tunnel), sandbox_id)
    return opened


async def authority_of(stand: Stand, authorization: bytes) -> bytes:
    """Fetch what signs the certificates that this sandbox is shown."""
    client = await stand.several.client()
    client.send(b"GET /v1/ca.pem HTTP/1.1\r\nHost: gateway.test\r\n" + authorization + b"\r\n")
    answer = await client.answer()
    assert answer.status == 200, answer
    return answer.body


async def intercepted(stand: Stand, authorization: bytes, trust: ssl.SSLContext) -> RawEnd:
    """Return a stream of requests to the managed host, its TLS ended."""
    client = await stand.several.client()
    first, _, rest = connect_head("api.test:443").partition(b"\r\n")
    client.send(first + b"\r\n" + authorization + rest)
    await established(client)
    await client.start_tls(trust, "api.test")
    return client


async def leave_idle(origin: RawOrigin, clients: list[RawEnd], request: bytes) -> list[RawEnd]:
    """Ask on all of these at once, so that each has a link of its own, and return the links after their answers."""
    for client in clients:
        client.send(request)
    links = [await origin.link() for _ in clients]
    for link in links:
        await link.head()
        link.send(OK)
    for client in clients:
        assert (await client.answer()).body == b"ok"
    return links


async def begin(origin: RawOrigin, opened: Open, client: RawEnd, *, is_upgrade: bool) -> None:
    link = await origin.link()
    assert SECRET.encode() in await link.head()
    link.send(SWITCHED if is_upgrade else EVENTS)
    await client.until(b"Upgrade: websocket\r\n" if is_upgrade else b"ping\r\n")
    if is_upgrade:
        await client.until(b"\r\n")
    opened.injected += [client, link]


async def pass_through(stand: Stand, opened: Open, client: RawEnd) -> None:
    assert (await client.head()).startswith(b"HTTP/1.1 200 ")
    link = await stand.origins.opaque.link()
    client.send(b"up")
    assert await link.exactly(2) == b"up"
    opened.opaque += [client, link]


async def reach_in(stand: Stand, opened: Open, sandbox: SandboxEnd, sandbox_id: str) -> None:
    """Open a WebSocket of the sandbox's endpoint by the admin listener."""
    caller = await RawEnd.dial(stand.several.gateway.admin_port)
    path = f"/v1/sandboxes/{sandbox_id}/endpoints/agent/ws"
    caller.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n".encode() + UPGRADE + b"\r\n")
    _, end = await sandbox.opened()
    await end.head()
    end.send(SWITCHED)
    assert (await caller.head()).startswith(b"HTTP/1.1 101 ")
    opened.inward += [caller, end]


async def withdraw(stand: Stand, what: str, number: int, opened: Open) -> None:
    sandbox_id, connection_id, binding_id = names_of(number)
    match what:
        case "jti" | "sid":
            for token in opened.tokens:
                await stand.revoke(what, claims_of(token)[what])
        case "plan removed":
            await stand.remove(sandbox_id)
        case "binding gone":
            await stand.publish(the_plan(number, revision=2, has_binding=False))
        case "host gone":
            await stand.publish(the_plan(number, revision=2, allowed="else.test"))
        case _:
            names = {"sandbox": sandbox_id, "connection": connection_id, "binding": binding_id}
            await stand.revoke(what, names[what])


def claims_of(token: str) -> dict[str, str]:
    payload = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))))


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("by", [by_admin, by_watch], ids=["admin", "watch"])
async def test_everything_of_it_ends_within_a_second(
    tmp_path: Path,
    by: Callable[[Path, int, Origins, Clock], contextlib.AbstractAsyncContextManager[Stand]],
    workers: int,
) -> None:
    clock = Clock(asyncio.get_running_loop())
    try:
        async with all_origins(tmp_path) as origins, by(tmp_path, workers, origins, clock) as stand:
            for number in range(len(WITHDRAWN)):
                await stand.publish(the_plan(number))
            every = [await open_everything(stand, number) for number in range(len(WITHDRAWN))]
            for number, what in enumerate(WITHDRAWN):
                opened = every[number]
                ends = opened.taken_by(what)
                assert not any(end.has_ended for each in every[number:] for end in each.idle + each.idle_own)
                begun_at = time.perf_counter()
                await withdraw(stand, what, number, opened)
                for end in ends:
                    assert await end.gone() == b"", what
                seconds = time.perf_counter() - begun_at
                figure(f"{what}: end of {len(ends)} ends, {workers} processes, {by.__name__}", seconds)
                assert seconds < WITHIN_SECONDS, what
                # All the others, and what this one does not take away, live.
                left = [] if what in OF_OPAQUE else opened.opaque
                left = left + ([] if what in OF_INWARD else opened.inward)
                for each in every[number + 1 :]:
                    left = left + each.opaque + each.inward
                for client, link in zip(left[::2], left[1::2], strict=True):
                    link.send(b"x")
                    assert await client.exactly(1) == b"x", what
                idle = {*opened.idle, *opened.idle_own} - {*opened.idle_taken_by(what)}
                assert not any(end.has_ended for end in idle), what
            for each in every:
                each.abort()
            assert SECRET.encode() not in stand.several.gateway.log
    finally:
        clock.close()


# ---- while plans are changed


# Each takes half a second of a core to compile, thrice: in the parent and in each process.
LARGE = [
    route(
        f"large_{number}",
        [],
        "con_large",
        bindingId=f"bnd_{number}",
        match={"hosts": ["large.test"], "pathPrefixes": [f"/a{number}/b{each}/c" for each in range(60)]},
    )
    for number in range(900)
]
BUSY = 8


def large_plan(sandbox_id: str, revision: int) -> bytes:
    return seal(plan_document(LARGE, default="deny", revision=revision) | {"sandboxId": sandbox_id})


def announced(document: bytes) -> dict[str, object]:
    return {name: value for name, value in json.loads(document).items() if name in ("sandboxId", "revision", "digest")}


@pytest.mark.parametrize("what", ["plan removed", "binding gone", "host gone"])
@pytest.mark.parametrize("by", [by_admin, by_watch], ids=["admin", "watch"])
async def test_what_is_withdrawn_overtakes_a_flood_of_plans(
    tmp_path: Path, by: Callable[..., contextlib.AbstractAsyncContextManager[Stand]], what: str
) -> None:
    clock = Clock(asyncio.get_running_loop())
    names = [f"sbx_busy_{number}" for number in range(BUSY)]
    flood = [large_plan(name, 2) for name in names]
    try:
        async with all_origins(tmp_path) as origins, by(tmp_path, 2, origins, clock) as stand:
            several = stand.several
            await stand.publish(the_plan(0))
            for name in names:
                await stand.publish(seal(plan_document([], default="deny") | {"sandboxId": name}))
                client = await several.client()  # the plan of whoever asks is loaded, and kept what it should be
                client.send(several.request("http://none.test/", stand.token("sallyport-proxy", name)))
                assert (await client.answer()).status == 403
            opened = await open_everything(stand, 0)

            def taken(sandbox_id: str, revision: int, *, by_process: bool) -> int:
                said = several.said("plan_applied", sandbox_id=sandbox_id, revision=revision)
                return sum(("process" in each) is by_process for each in said)

            def all_taken(*, by_process: bool) -> int:
                return sum(taken(name, 2, by_process=by_process) for name in names)

            # One of the sandbox itself is among them, and has left the parent when the order comes.
            for document in (*flood[:-2], the_plan(0, revision=2), *flood[-2:]):
                await stand.push(document)
            await several.until(
                lambda: taken("sbx_0", 2, by_process=False) == 1 and all_taken(by_process=False) >= BUSY // 2
            )
            ends = opened.taken_by(what)
            begun_at = time.perf_counter()
            match what:
                case "plan removed":
                    await stand.remove("sbx_0")
                case "binding gone":
                    await stand.push(the_plan(0, revision=3, has_binding=False))
                case _:
                    await stand.push(the_plan(0, revision=3, allowed="else.test"))
            for end in ends:
                assert await end.gone() == b""
            seconds = time.perf_counter() - begun_at
            at_the_end = all_taken(by_process=True)
            figure(f"{what} when {at_the_end} of {2 * BUSY} plans were taken, {by.__name__}", seconds)
            assert at_the_end < 2 * BUSY
            assert seconds < WITHIN_SECONDS
            await several.until(lambda: all_taken(by_process=True) == 2 * BUSY)
            # Nor has any of them brought it back.
            clients = [
                client for each in (await several.clients_of_both("http://none.test/")).values() for client in each
            ]
            for client in clients if what != "host gone" else ():
                answer = await several.get(client, "http://api.test/", opened.tokens[0])
                assert answer.status == (503 if what == "plan removed" else 403)
            last = {each.get("process"): each["revision"] for each in several.said("plan_applied", sandbox_id="sbx_0")}
            assert what == "plan removed" or set(last.values()) == {3}
            opened.abort()
    finally:
        clock.close()


# Of a size that one sandbox has: each takes some milliseconds to compile, and a burst of them seconds.
BURST = 150
ORDINARY = [route(f"ordinary_{number}", [f"api{number}.test"], "con_ordinary") for number in range(100)]


def ordinary_plan(sandbox_id: str, revision: int) -> bytes:
    return seal(plan_document(ORDINARY, default="deny", revision=revision) | {"sandboxId": sandbox_id})


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("by", [by_admin, by_watch], ids=["admin", "watch"])
async def test_a_binding_that_is_gone_overtakes_a_burst_of_newer_plans(
    tmp_path: Path, by: Callable[..., contextlib.AbstractAsyncContextManager[Stand]], workers: int
) -> None:
    """Each of them replaces the plan of a sandbox that is there, as this one does; but they take nothing away."""
    clock = Clock(asyncio.get_running_loop())
    names = [f"sbx_ordinary_{number}" for number in range(BURST)]
    try:
        async with all_origins(tmp_path) as origins, by(tmp_path, workers, origins, clock) as stand:
            several = stand.several
            await stand.publish(the_plan(0))
            for name in names:
                await stand.publish(ordinary_plan(name, 1))
                client = await several.client()
                client.send(several.request("http://none.test/", stand.token("sallyport-proxy", name)))
                assert (await client.answer()).status == 403
            opened = await open_everything(stand, 0)
            burst = [ordinary_plan(name, 2) for name in names]
            for document in burst:
                await stand.push(document)
            begun_at = time.perf_counter()
            await stand.push(the_plan(0, revision=2, has_binding=False))
            for end in opened.injected:
                assert await end.gone() == b""
            seconds = time.perf_counter() - begun_at
            taken = len([each for each in several.said("plan_applied", revision=2) if each["sandbox_id"] in names])
            figure(f"binding gone when {taken} of {BURST * workers} plans were taken, {by.__name__}", seconds)
            assert seconds < WITHIN_SECONDS
            opened.abort()
    finally:
        clock.close()
