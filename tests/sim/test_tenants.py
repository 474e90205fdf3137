"""Two organizations that call everything alike, under seeded schedules: nobody is ever served with what is another's.

The gateway's own data path takes part, from the bytes of a request to those of its answer (tests/support/tenants.py).
A schedule opens streams, sends requests in pieces, has dials and credentials arrive in any order or fail, lets origins
answer whole, in parts, with a 401, with the secret itself, with rubbish or not at all, and withdraws meanwhile what
those requests live by: tokens, connections, bindings, plans. A sandbox may move to the other organization and back, its
tokens of before in hand. Then every byte that an origin or a sandbox saw is read, each audit record and each denial. A
failure names its seed; `run_schedule(seed)` plays it again, turn for turn.
"""

import asyncio
import contextlib
import random
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.core.credential_cache import RevocationsFull
from gateway.credentials import CredentialError
from gateway.running import Gateway
from gateway.stream import ServedStream
from sallyport.claims import Claims
from tests.support.tenants import (
    BINDINGS,
    CONNECTIONS,
    EPOCH,
    HOSTS,
    ORGANIZATIONS,
    SANDBOXES,
    SECRET,
    Asked,
    Client,
    Origin,
    TenantGateway,
    issued,
    sealed_plan,
)
from tests.support.virtual_time import VirtualLoop

FAST, FULL = 200, 10_000
STEPS = 90
FOREVER = 10**9
# To its end: what is cut short may end in the middle of a number.
ASKED = re.compile(r"/(?:org_one|org_two)/sbx_[a-z]+/\d+(?=\D)")
INJECTED = re.compile(rb"\r\nAuthorization: Bearer " + SECRET + rb"\.([a-z_0-9.]+)\r\n")
REJECTED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno"
RUBBISH = b"HTTP/1.1 2x0 OK\r\n\r\n"


class Schedule:
    """One gateway, and everything that happens to it."""

    def __init__(self, seed: int, loop: VirtualLoop) -> None:
        self.rng = random.Random(seed)
        self.gateway = TenantGateway(self.rng, loop)
        self.parts = self.gateway.parts
        nothing: Any = None
        self.running = Gateway(self.parts, nothing, None, 0, contextlib.AsyncExitStack())
        self.parts.plans.on_replaced = self.running.plan_replaced
        self.revisions = dict.fromkeys(SANDBOXES, 0)
        self.tokens: list[tuple[bytes, Claims]] = []
        self.asked: set[Asked] = set()

    async def play(self) -> int:
        """Play to the end and look at everything; return how many requests reached an origin with a credential."""
        for sandbox_id in SANDBOXES:
            self.push_plan(sandbox_id, self.rng.choice(ORGANIZATIONS))
        doings = (
            *(self.ask,) * 8,
            *(self.send_on,) * 4,
            *(self.fetch,) * 5,
            *(self.dial,) * 5,
            *(self.answer,) * 9,
            *(self.change_plan, self.take_away, self.forget, self.leave),
        )
        for _ in range(STEPS):
            self.rng.choice(doings)()
            self.check_open()
            if self.rng.random() < 0.8:
                await asyncio.sleep(self.rng.choice((0, 0, 0, 0, 0, 0.01, 0.3, 1)))
        await self.wind_up()
        return self.read_everything()

    async def wind_up(self) -> None:
        """Let most of what waits come to an end by itself, then end the rest."""
        for _ in range(6):
            for client in self.gateway.clients:
                self.send(client, len(client.unsent))
            for doing in (self.fetch, self.dial, self.answer):
                for _ in range(6):
                    doing()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        await asyncio.sleep(3)
        await self.gateway.close()
        assert not self.gateway.failures, self.gateway.failures
        assert (self.parts.streams.open, self.parts.upstreams.state.open) == (0, 0)

    # The sandboxes ----------------------------------------------------------------------------------

    def ask(self) -> None:
        """Begin another request, on an open stream or a new one, and send some of it."""
        rng = self.rng
        open_ones = [client for client in self.gateway.clients if not client.is_lost and not client.unsent]
        if open_ones and rng.random() < 0.8:
            client = rng.choice(open_ones)
        else:
            client = self.gateway.client(self.some_token()[1] if rng.random() < 0.5 else None)
        # By an explicit stream anybody may ask next.
        token, claims = (b"", client.claims) if client.claims is not None else self.some_token()
        asked = Asked(claims.organization_id, claims.sandbox_id, len(self.asked))
        self.asked.add(asked)
        client.asked.append(asked)
        client.unsent = self.request(asked, token)
        self.send(client, rng.choice((5, 60, 10_000, 10_000, 10_000)))

    def some_token(self) -> tuple[bytes, Claims]:
        """Return a token of now, or one of an organization that its sandbox has perhaps left."""
        newest = {claims.sandbox_id: (token, claims) for token, claims in self.tokens}
        return self.rng.choice(self.tokens if self.rng.random() < 0.1 else list(newest.values()))

    def request(self, asked: Asked, token: bytes) -> bytes:
        (host,) = self.rng.choices(HOSTS, (8, 3, 3, 1))
        authority = b"Proxy-Authorization: Bearer %b\r\n" % token if token else b""
        method, body = self.rng.choice(((b"GET", b""), (b"GET", b""), (b"POST", b"a body of " + asked.path.encode())))
        length = b"Content-Length: %d\r\n" % len(body) if body else b""
        target = f"http://{host}{asked.path}".encode()
        head = b"%b %b HTTP/1.1\r\nHost: %b\r\n%b%b\r\n" % (method, target, host.encode(), authority, length)
        return head + body

    def send_on(self) -> None:
        """Send more of what was begun."""
        begun = [client for client in self.gateway.clients if client.unsent]
        if begun:
            self.send(self.rng.choice(begun), self.rng.choice((1, 40, 10_000)))

    def send(self, client: Client, size: int) -> None:
        if not client.is_lost:
            client.transport.write(client.unsent[:size])
        client.unsent = b"" if client.is_lost else client.unsent[size:]

    def leave(self) -> None:
        """A program goes away, whatever is open."""
        there = [client for client in self.gateway.clients if not client.is_lost]
        if there:
            self.rng.choice(there).transport.abort()

    # What the gateway waits for ---------------------------------------------------------------------

    def fetch(self) -> None:
        """A credential comes, any of those that are awaited, or the reason why there is none."""
        waiting = [each for each in self.gateway.fetches if not each[1].done()]
        if not waiting:
            return
        request, answer = self.rng.choice(waiting)
        fate = self.rng.random()
        if fate < 0.92:
            life = self.rng.choice((None, 1, 10, 100))
            expires_at = None if life is None else self.parts.clock.wall + life
            answer.set_result(self.gateway.credential(request, expires_at))
        else:
            code = "refresh_failed_temporary" if fate < 0.97 else "connection_not_active"
            answer.set_exception(CredentialError(code, temporary=fate < 0.97))

    def dial(self) -> None:
        """A link is there, any of those that are awaited, or cannot be had."""
        waiting = [dialled for _, dialled in self.gateway.dials if not dialled.done()]
        if waiting:
            dialled = self.rng.choice(waiting)
            if self.rng.random() < 0.95:
                dialled.set_result(None)
            else:
                dialled.set_exception(ConnectionRefusedError())

    def answer(self) -> None:
        """An origin answers, or goes on, or ends the link instead; or says something that nobody asked for."""
        there = [origin for origin in self.gateway.origins if not origin.is_lost]
        waiting = [origin for origin in there if origin.waits]
        if there and self.rng.random() < 0.05:
            self.rng.choice(there).transport.abort()
        elif there and self.rng.random() < 0.03:
            self.rng.choice(there).transport.write(b"HTTP/1.1 200 OK\r\n")
        elif waiting:
            origin = self.rng.choice(waiting)
            self.go_on(origin) if origin.is_answering else self.begin_answer(origin)

    def begin_answer(self, origin: Origin) -> None:
        """Answer the request that waits; the origin shows what it was asked, its secret too."""
        request = origin.requests[origin.answered]
        fate = self.rng.random()
        if fate < 0.1:
            origin.transport.write(REJECTED)
        elif fate < 0.15:
            origin.transport.write(RUBBISH)
        elif fate < 0.5:
            origin.transport.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            origin.transport.write(b"%x\r\n%b\r\n" % (len(request), request))
            origin.is_answering = True
            return
        else:
            ending = b"Connection: close\r\n" if fate > 0.9 else b""
            head = b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n" % (ending, len(request))
            origin.transport.write(head + request)
        origin.answered += 1

    def go_on(self, origin: Origin) -> None:
        """Send more of an answer, or its end."""
        request = origin.requests[origin.answered]
        if self.rng.random() < 0.5:
            origin.transport.write(b"%x\r\n%b\r\n" % (len(request), request))
        else:
            origin.transport.write(b"0\r\n\r\n")
            origin.is_answering = False
            origin.answered += 1

    # What is withdrawn ------------------------------------------------------------------------------

    def push_plan(self, sandbox_id: str, organization_id: str) -> None:
        rng = self.rng
        self.revisions[sandbox_id] += 1
        bound = tuple((binding_id, rng.choice(CONNECTIONS)) for binding_id in BINDINGS[: rng.choice((1, 2, 2))])
        self.parts.plans.apply(sealed_plan(sandbox_id, organization_id, self.revisions[sandbox_id], bound))
        self.tokens.append(issued(sandbox_id, organization_id, rng.randrange(3)))

    def change_plan(self) -> None:
        sandbox_id = self.rng.choice(SANDBOXES)
        table = self.parts.plans.table(sandbox_id)
        if table is not None and self.rng.random() < 0.2:
            self.parts.plans.remove(sandbox_id)
            self.revisions[sandbox_id] = 0  # the id is given again
        elif table is None or self.rng.random() < 0.4:
            self.push_plan(sandbox_id, self.rng.choice(ORGANIZATIONS))
        else:
            self.push_plan(sandbox_id, table.organization_id)

    def take_away(self) -> None:
        """Revoke something for a while: what was open by it is gone when this returns, and nothing else is."""
        rng = self.rng
        kind = rng.choice(("jti", "sid", "sandbox", "connection", "binding", "connection", "binding"))
        _, claims = rng.choice(self.tokens)
        names = {
            "jti": claims.token_id,
            "sid": claims.lineage,
            "sandbox": claims.sandbox_id,
            "connection": rng.choice(CONNECTIONS),
            "binding": rng.choice(BINDINGS),
        }
        of_credential = kind in ("connection", "binding")
        whose = rng.choice((*ORGANIZATIONS, None)) if of_credential else None
        others = [] if whose is None else list(self.exchanges(without=whose))
        with contextlib.suppress(RevocationsFull), self.withdrawing():
            until = self.parts.clock.wall + rng.choice((1, 5))
            self.running.revoke(kind, names[kind], until, whose)
            assert not of_credential or not any(
                stream.carries(kind, names[kind], whose) for stream in self.parts.streams.all()
            )
        assert others == ([] if whose is None else list(self.exchanges(without=whose)))

    @contextlib.contextmanager
    def withdrawing(self) -> Iterator[None]:
        """Note which credentials go while the block runs."""
        before = {key: entry.credential.version for key, entry in self.parts.credentials.entries.items()}
        yield
        for key in before.keys() - self.parts.credentials.entries.keys():
            self.gateway.withdrawn[before[key]] = len(self.asked)

    def exchanges(self, *, without: str) -> Iterator[ServedStream]:
        """Yield the streams with an open exchange whose credential is not this organization's."""
        for stream in self.parts.streams.all():
            if isinstance(stream, ServedStream) and stream.exchange is not None:
                route = stream.exchange.route
                if route is not None and route.organization_id != without:
                    yield stream

    def forget(self) -> None:
        """Have credentials forgotten, of one organization or of all."""
        kind = self.rng.choice(("organization", "connection", "all"))
        whose = self.rng.choice(ORGANIZATIONS)
        kept = {key for key in self.parts.credentials.entries if key.organization_id != whose}
        name = {"organization": whose, "connection": self.rng.choice(CONNECTIONS), "all": None}[kind]
        with self.withdrawing():
            self.parts.credentials.invalidate(kind, name, whose if kind == "connection" else None)
        self.gateway.generation += 1
        left = self.parts.credentials.entries.keys()
        assert left >= kept if kind == "connection" else left == (kept if kind == "organization" else set())

    # What has to hold -------------------------------------------------------------------------------

    def check_open(self) -> None:
        """What is open has its authority, and what is kept is filed under whose it is."""
        for stream in self.parts.streams.all():
            if not isinstance(stream, ServedStream) or stream.exchange is None or stream.exchange.route is None:
                continue
            claims, route = stream.claims, stream.exchange.route
            assert claims is not None
            table = self.parts.plans.table(claims.sandbox_id)
            assert table is not None
            assert table.organization_id == route.organization_id == claims.organization_id
            assert route.binding_id in table.binding_ids
        for key, entry in self.parts.credentials.entries.items():
            assert entry.credential.version.startswith(".".join(map(str, key[:4])) + ".")

    def read_everything(self) -> int:
        """Read what everybody saw; return how many requests reached an origin with a credential."""
        for client in self.gateway.clients:
            self.read_answers(client)
        injected = sum(map(self.read_requests, self.gateway.origins))
        for record in self.gateway.audit.records:
            self.read_record(record)
        paths = [record["path"] for record in self.gateway.audit.records if record["path"]]
        assert len(paths) == len(set(paths)), "a request has one record"
        for denial in self.parts.denials.after(""):
            self.read_words(denial.document)
        return injected

    def read_answers(self, client: Client) -> None:
        """Each answer is to the request at its place, and names nobody but who asked; no secret comes down."""
        for asked, answer in zip([*client.asked, None], client.answers(), strict=False):
            assert asked is not None, "nothing is answered that was not asked"
            assert set(ASKED.findall(answer.decode())) <= {asked.path}
            self.read_words(answer, asked)

    def read_words(self, said: bytes, asked: Asked | None = None) -> None:
        """Nothing that says whose it is speaks of two; and where it is known who asked, of nobody else."""
        organizations = {word for word in ORGANIZATIONS if word.encode() in said}
        sandboxes = {word for word in SANDBOXES if word.encode() in said}
        assert SECRET not in said
        assert len(organizations) < 2 > len(sandboxes), said
        if asked is not None:
            assert organizations <= {asked.organization_id}, said
            assert sandboxes <= {asked.sandbox_id}, said

    def read_requests(self, origin: Origin) -> int:
        """A link carries the requests of one owner, each with its own credential and nobody else's."""
        owners, injected = set(), 0
        for request in origin.requests:
            (path,) = set(ASKED.findall(request.decode()))
            asked = Asked.of_path(path)
            assert asked in self.asked
            assert not any(word.encode() in request for word in ORGANIZATIONS if word != asked.organization_id)
            found = INJECTED.findall(request)
            assert request.count(SECRET) == len(found)
            if origin.host == HOSTS[2]:
                assert found == []
                owners.add(asked[:2])
                continue
            (whose,) = found
            organization_id, sandbox_id, binding_id, connection_id, _ = whose.decode().split(".")
            assert (organization_id, sandbox_id) == asked[:2]
            assert asked.number < self.gateway.withdrawn.get(whose.decode(), FOREVER), "it was withdrawn before"
            assert origin.host == HOSTS[BINDINGS.index(binding_id)]
            owners.add((organization_id, connection_id))
            injected += 1
        assert len(owners) < 2, owners
        return injected

    def read_record(self, record: dict[str, Any]) -> None:
        """A record says whose the request was, by which rule, binding and credential, all of them its own."""
        organization_id, sandbox_id = record["organizationId"], record["sandboxId"]
        assert SECRET.decode() not in str(record)
        if not record["path"]:
            return  # a stream that had no request
        asked = Asked.of_path(record["path"])
        if organization_id is None:
            assert [record[name] for name in ("egressRuleId", "connectionId", "credentialVersion")] == [None] * 3
            return
        assert (organization_id, sandbox_id) == asked[:2]
        if record["egressRuleId"] is not None:
            assert f"{organization_id}_{sandbox_id}" in record["egressRuleId"]
        for version in record["credentialVersion"] or ():
            bound = (record["bindingId"], record["connectionId"])
            assert version.startswith(".".join((organization_id, sandbox_id, *bound)) + ".")


@contextlib.contextmanager
def wall_of(loop: VirtualLoop) -> Iterator[None]:
    """Have unix time go with the loop's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: EPOCH + loop.time())
        yield


def run_schedule(seed: int) -> int:
    """Play one schedule; return how many requests reached an origin with a credential."""
    loop = VirtualLoop()
    try:
        with wall_of(loop), capture_logs():  # writing logs would take longer than all the rest
            return loop.run_until_complete(_play(seed, loop))
    except BaseException as error:
        error.add_note(f"seed {seed}")
        raise
    finally:
        loop.close()


async def _play(seed: int, loop: VirtualLoop) -> int:
    return await Schedule(seed, loop).play()


def test_c12_organizations_never_cross() -> None:
    assert sum(map(run_schedule, range(FAST))) > FAST


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_c12_organizations_never_cross_in_ten_thousand_interleavings() -> None:
    assert sum(map(run_schedule, range(FAST, FAST + FULL))) > FULL
