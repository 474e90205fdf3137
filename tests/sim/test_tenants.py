"""Two organizations that call everything alike, under seeded schedules: nobody is ever served with what is another's.

The real tables take part (plans, credentials, prepared injections, links, revocations, open streams) and the real
orders (revoke, invalidate, replace and remove a plan); what an exchange does between them is played in as many pieces
as it waits. A sandbox may move to the other organization and back, its tokens of before in hand. A failure names its
seed; `run_schedule(seed)` plays it again, turn for turn.
"""

import asyncio
import contextlib
import random
from collections.abc import Iterator
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from gateway.config import Scrub
from gateway.core.credential_cache import Credential, ResolveRequest, RevocationsFull
from gateway.core.inject.prepare import Injection
from gateway.core.route_table import InjectRoute, PoolKey, RouteTable
from gateway.credentials import CredentialError, Credentials
from gateway.open_streams import OpenStream, StreamIndex
from gateway.parts import GatewayParts
from gateway.plan_holder import PlanHolder
from gateway.revocations import Revocations
from gateway.running import Gateway
from gateway.upstream import UpstreamLink, UpstreamPool
from sallyport.claims import Claims
from sallyport.destination import Destination
from sallyport.net.clock import Clock
from sallyport.net.tasks import TaskSet
from sallyport.plan.codec import seal
from sallyport.secret import Secret
from tests.support.plan_documents import plan_document, route_document
from tests.support.virtual_time import VirtualLoop

FAST, FULL = 200, 10_000
STEPS = 60
ORGANIZATIONS = ("org_one", "org_two")
SANDBOXES = ("sbx_one", "sbx_two", "sbx_three")
CONNECTIONS = ("con_one", "con_two")
BINDINGS = ("bnd_one", "bnd_two")
HOST = Destination("https", "api.test", 443)
# Unix time begins somewhere; the loop's begins at 0.
EPOCH = 1_750_000_000.0


class Wire:
    """The transport of a link."""

    def __init__(self) -> None:
        self.closed = False
        self.link: UpstreamLink | None = None

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        if not self.closed:
            self.closed = True
            assert self.link is not None
            self.link.connection_lost(None)

    close = abort


class SimStream(OpenStream):
    """An exchange that is open, from its admission to its end."""

    def __init__(self, world: "World", claims: Claims, table: RouteTable, route: InjectRoute) -> None:
        self.world = world
        self.claims: Claims | None = claims
        self.whose = claims
        self.table = table
        self.route = route
        self.link: UpstreamLink | None = None
        self.is_over = False
        world.parts.streams.add(self)
        world.parts.streams.claim(self, None, claims)

    def carries(self, kind: str, identifier: str, organization_id: str | None) -> bool:
        return identifier in (self.route.connection_ids if kind == "connection" else (self.route.binding_id,))

    def goes_on_under(self, table: RouteTable | None) -> bool:
        return table is not None and self.route.binding_id in table.binding_ids

    def revoke(self) -> None:
        self.end()
        if self.link is not None:
            self.link.drop()

    def end(self) -> None:
        assert not self.is_over
        self.is_over = True
        self.world.parts.streams.remove(self)


class World:
    """The tables of one gateway, and everything that happens to them."""

    def __init__(self, seed: int, loop: VirtualLoop) -> None:
        self.rng = rng = random.Random(seed)
        self.loop = loop
        self.tasks = TaskSet(lambda name, error: self.failures.append(error))
        self.failures: list[BaseException] = []
        self.served = 0
        self.generation = 0  # of the secrets: a rotation makes another
        self.plans = PlanHolder(max_sandboxes=10, max_plan_bytes=100_000)
        self.revisions = dict.fromkeys(SANDBOXES, 0)
        self.tokens: list[Claims] = []
        credentials = Credentials(
            self,
            self.tasks,
            max_entries=rng.choice((2, 100)),  # few: then they push each other out
            max_concurrent=16,
            max_each=4,
            timeout_seconds=5,
            now=lambda: self.wall,
            random=rng.random,
            count=lambda result: None,
        )
        upstreams = UpstreamPool(
            clock=cast(Clock, self),
            dialer=cast(Any, None),
            context=cast(Any, None),
            links_per_key=100,
            idle_per_key=3,
            links_per_owner=100,
            write_buffer_bytes=1,
            handshake_timeout=1,
            queue_timeout=1,
            idle_timeout=1,
            observe_connect=lambda seconds: None,
        )
        nothing = cast(Any, None)
        self.parts = GatewayParts(
            loop=loop,
            clock=cast(Clock, self),
            timeouts=nothing,
            limits=nothing,
            passthrough_hosts=(),
            scrub=Scrub(enabled=False),
            tokens=nothing,
            tunnel_tokens=nothing,
            renewal_tokens=nothing,
            revocations=Revocations(),
            plans=self.plans,
            credentials=credentials,
            upstreams=upstreams,
            dialer=nothing,
            splices=nothing,
            authorities=nothing,
            interception=nothing,
            audit=nothing,
            metrics=nothing,
            tasks=self.tasks,
            request_prefix="",
            streams=StreamIndex(max_anonymous=100),
        )
        self.gateway = Gateway(self.parts, nothing, None, 0, contextlib.AsyncExitStack())
        self.plans.on_replaced = self.gateway.plan_replaced

    # What the parts ask of a clock, and of a source of credentials

    @property
    def now(self) -> float:
        return self.loop.time()

    @property
    def wall(self) -> float:
        return EPOCH + self.loop.time()

    def watch(self, timed: object, deadline_at: float) -> None: ...

    def file(self, timed: object, at: float) -> None: ...

    async def resolve(self, request: ResolveRequest) -> Credential:
        """Say in the secret itself whose it is."""
        secret = f"{'|'.join(map(str, request.key[:4]))}|{self.generation}"
        await asyncio.sleep(self.rng.random())
        if self.rng.random() < 0.1:
            raise CredentialError("refresh_failed_temporary", temporary=True)
        expires_at = self.wall + self.rng.choice((1, 10, 100)) if self.rng.random() < 0.5 else None
        return Credential(Secret(secret.encode()), expires_at, f"v{self.generation}")

    # What happens

    async def play(self) -> None:
        for sandbox_id in SANDBOXES:
            self.push_plan(sandbox_id, self.rng.choice(ORGANIZATIONS))
        doings = (self.ask, self.ask, self.ask, self.ask, self.change_plan, self.take_away, self.rotate, self.forget)
        for _ in range(STEPS):
            self.rng.choice(doings)()
            self.check()
            if self.rng.random() < 0.6:
                await asyncio.sleep(self.rng.choice((0, 0.01, 0.3, 3)))
                self.check()
        await asyncio.sleep(100)
        self.check()
        assert not self.failures, self.failures
        assert [*self.parts.streams.all()] == []
        await self.tasks.close()

    def ask(self) -> None:
        """Let a token be shown, one of now or one of an organization that its sandbox has left."""
        self.tasks.spawn(self.exchange(self.rng.choice(self.tokens[-8:])), name="exchange")

    async def exchange(self, claims: Claims) -> None:
        """Do what gateway.serve does, in the same order and with the same waits."""
        parts, rng = self.parts, self.rng
        table = parts.plans.table(claims.sandbox_id)
        if table is None or table.organization_id != claims.organization_id:
            return
        if parts.revocations.cover(claims, self.wall):
            return
        route = rng.choice([*table.routes.values()])
        stream = SimStream(self, claims, table, route)
        injection = self.prepared(route)
        if injection is None:
            try:
                current = [await parts.credentials.fetch(request.key, request) for request in route.credentials]
            except CredentialError:
                if not stream.is_over:
                    stream.end()
                return
            if stream.is_over:
                return
            injection = route.prepared = Injection(route, current, scrub=False)
        key = route.upstream_for(HOST).pool_key
        link = parts.upstreams.checkout(key, claims.sandbox_id)
        if link is None:
            link = self.dialled(key)
            parts.upstreams.state.reserve(key, claims.sandbox_id, link)
            await asyncio.sleep(rng.random() / 10)
            if stream.is_over:
                link.leave_pool()
                return
        stream.link = link
        self.send(stream, injection)
        await asyncio.sleep(rng.choice((0, 0.1, 10)))
        if not stream.is_over:
            stream.end()
            parts.upstreams.release(link)

    def prepared(self, route: InjectRoute) -> Injection | None:
        found = route.prepared
        if found is None:
            return None
        fresh = self.parts.credentials.fresh
        return found if all(fresh(key, self.wall) is credential for key, credential in found.made_of) else None

    def dialled(self, key: PoolKey) -> UpstreamLink:
        link, wire = UpstreamLink(self.parts.upstreams, key), Wire()
        wire.link = link
        link.transport = cast(asyncio.Transport, wire)
        return link

    def send(self, stream: SimStream, injection: Injection) -> None:
        """The head goes out: whose secret, whose link, by whose plan."""
        claims, link = stream.whose, stream.link
        assert link is not None
        assert not link.transport.is_closing()
        (field,) = [line for line in injection.block.split(b"\r\n") if line.startswith(b"Authorization: Bearer ")]
        organization_id, sandbox_id, binding_id, connection_id, _ = field.decode().rpartition(" ")[2].split("|")
        assert (organization_id, sandbox_id) == (claims.organization_id, claims.sandbox_id)
        assert (binding_id, (connection_id,)) == (stream.route.binding_id, stream.route.connection_ids)
        assert (link.key.organization_id, link.key.owner) == (organization_id, ("connections", connection_id))
        assert stream.table.organization_id == organization_id
        self.served += 1

    def push_plan(self, sandbox_id: str, organization_id: str) -> None:
        rng = self.rng
        self.revisions[sandbox_id] += 1
        resolver = {"kind": "integration_connection", "secretType": "api_key"}
        routes = [
            route_document(
                binding_id.replace("bnd", "rule"),
                bindingId=binding_id,
                match={"hosts": [f"{binding_id.replace('_', '-')}.test"]},
                credentialResolver=resolver | {"connectionId": rng.choice(CONNECTIONS)},
            )
            for binding_id in rng.sample(BINDINGS, rng.choice((1, 2, 2)))
        ]
        document = plan_document(routes, revision=self.revisions[sandbox_id])
        self.plans.apply(seal(document | {"sandboxId": sandbox_id, "organizationId": organization_id}))
        number = len(self.tokens)
        self.tokens.append(
            Claims(
                issuer="sallyport",
                audience="sallyport-proxy",
                sandbox_id=sandbox_id,
                organization_id=organization_id,
                lineage=f"sid_{number % 5}",
                issued_at=0,
                not_before=0,
                expires_at=int(EPOCH) + 10**6,
                token_id=f"jti_{number}",
            )
        )

    def change_plan(self) -> None:
        sandbox_id = self.rng.choice(SANDBOXES)
        table = self.plans.table(sandbox_id)
        if table is not None and self.rng.random() < 0.2:
            self.plans.remove(sandbox_id)
            self.revisions[sandbox_id] = 0  # the id is given again
        elif table is None or self.rng.random() < 0.3:
            self.push_plan(sandbox_id, self.rng.choice(ORGANIZATIONS))
        else:
            self.push_plan(sandbox_id, table.organization_id)

    def take_away(self) -> None:
        """Revoke something for a while; what was open by it is gone when this returns."""
        kind = self.rng.choice(("jti", "sid", "sandbox", "connection", "binding"))
        claims = self.rng.choice(self.tokens)
        names = {
            "jti": (claims.token_id,),
            "sid": (claims.lineage,),
            "sandbox": SANDBOXES,
            "connection": CONNECTIONS,
            "binding": BINDINGS,
        }
        name = self.rng.choice(names[kind])
        with contextlib.suppress(RevocationsFull):
            self.gateway.revoke(kind, name, self.wall + self.rng.choice((1, 5)))
            for stream in self.open():
                assert kind not in ("connection", "binding") or not stream.carries(kind, name, None)
            if kind == "connection":
                assert self.parts.upstreams.state.idle_links(lambda key: name in key.owner) == []

    def rotate(self) -> None:
        self.generation += 1
        self.parts.credentials.invalidate("all", None)

    def forget(self) -> None:
        organization_id = self.rng.choice(ORGANIZATIONS)
        self.parts.credentials.invalidate("organization", organization_id)
        assert organization_id not in {key.organization_id for key in self.parts.credentials.entries}

    def open(self) -> Iterator[SimStream]:
        yield from (stream for stream in self.parts.streams.all() if isinstance(stream, SimStream))

    def check(self) -> None:
        """What is open has its authority, and what is idle is filed under its own organization."""
        for stream in self.open():
            table = self.plans.table(stream.whose.sandbox_id)
            assert table is not None
            assert table.organization_id == stream.whose.organization_id
            assert stream.route.binding_id in table.binding_ids
            assert stream.link is None or stream.link.key.organization_id == stream.whose.organization_id
        for table in self.plans.tables():
            for route in table.routes.values():
                made_of = () if route.prepared is None else route.prepared.made_of
                for key, credential in made_of:
                    assert (key.organization_id, key.sandbox_id) == (table.organization_id, table.sandbox_id)
                    (secret,) = credential.secrets
                    assert secret.reveal().startswith(f"{table.organization_id}|{table.sandbox_id}|".encode())
        for key, entry in self.parts.credentials.entries.items():
            (secret,) = entry.credential.secrets
            assert secret.reveal().startswith("|".join(map(str, key[:4])).encode() + b"|")


def run_schedule(seed: int) -> int:
    """Play one schedule; return how many requests were sent upstream."""
    loop = VirtualLoop()
    try:
        world = World(seed, loop)
        with capture_logs():  # writing them would take longer than all the rest
            loop.run_until_complete(world.play())
        return world.served
    except BaseException as error:
        error.add_note(f"seed {seed}")
        raise
    finally:
        loop.close()


def test_organizations_never_cross() -> None:
    assert sum(map(run_schedule, range(FAST))) > FAST


@pytest.mark.full
@pytest.mark.timeout(900)
def test_organizations_never_cross_in_ten_thousand_interleavings() -> None:
    assert sum(map(run_schedule, range(FAST, FAST + FULL))) > FULL
