"""A gateway in memory, its sandboxes and its origins, for schedules of tests/sim: every byte that anybody saw is kept.

All of the data path is the gateway's own: streams, exchanges, answers, links, pool, dialer, credentials, tokens, plans,
revocations, audit. Sockets are pairs in memory, and what takes time (a dial, a credential) waits until the schedule
says so. Two organizations call everything alike that they can: connections, bindings, hosts. What they cannot choose
names them, so that whose a byte is can be read off it: a rule, a secret, the path that a request asks for.
"""

import asyncio
import functools
import ipaddress
import random
import re
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from gateway.answer import CODING_SECONDS
from gateway.audit import AuditLog
from gateway.audit_line import FIELDS, Record
from gateway.config import GatewayConfig, load_config
from gateway.core.credential_cache import Credential, ResolveRequest
from gateway.core.decision import Mode
from gateway.credentials import Credentials
from gateway.denials import Denials
from gateway.keys import KeyRing, KeySet
from gateway.metrics import Metrics
from gateway.open_streams import StreamIndex
from gateway.parts import GatewayParts
from gateway.plan_holder import PlanHolder
from gateway.proxy_listener import SOURCE, ProxyDoorman
from gateway.revocations import Revocations
from gateway.stream import ServedStream
from gateway.tokens import TokenVerifier
from gateway.tunnel_stream import SOURCE as TUNNEL
from gateway.upstream import UpstreamPool
from sallyport.address_policy import AddressPolicy
from sallyport.claims import AUDIENCE_PROXY, Claims
from sallyport.net.clock import Clock
from sallyport.net.dial import Dialer
from sallyport.net.memory import MemoryTransport, memory_pair
from sallyport.net.proxy_connect import ProtocolFactory
from sallyport.net.resolve import Resolver
from sallyport.net.tasks import TaskSet
from sallyport.net.turns import LoopTurns
from sallyport.plan.codec import seal
from sallyport.secret import Secret
from sallyport_cli.keys import mint, new_private_key, public_pem
from tests.support.plan_documents import plan_document, route_document, rule_document

# Unix time begins somewhere; the loop's begins at 0.
EPOCH: Final = 1_750_000_000
ORGANIZATIONS: Final = ("org_one", "org_two")
SANDBOXES: Final = ("sbx_one", "sbx_two", "sbx_three")
CONNECTIONS: Final = ("con_one", "con_two")
BINDINGS: Final = ("bnd_one", "bnd_two")
# The first two are routes of every plan that has their bindings, the third passes without a credential, the last not.
MANAGED: Final = ("api.test", "other.test")
HOSTS: Final = (*MANAGED, "open.test", "nowhere.test")
SECRET: Final = b"s3cr3t"

_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)


class Asked(NamedTuple):
    """A request as its sandbox made it; its path names all of this."""

    organization_id: str
    sandbox_id: str
    number: int

    @property
    def path(self) -> str:
        """Where it asks."""
        return f"/{self.organization_id}/{self.sandbox_id}/{self.number}"

    @classmethod
    def of_path(cls, path: str) -> "Asked":
        """Read it from a path."""
        _, organization_id, sandbox_id, number = path.split("/")
        return cls(organization_id, sandbox_id, int(number))


class Client(asyncio.Protocol):
    """A program of a sandbox: what it asked, what it still has to send, and what it was sent."""

    def __init__(self, claims: Claims | None) -> None:
        """With claims it came through a tunnel; without, each request brings a token, of whomever."""
        self.claims = claims
        self.asked: list[Asked] = []
        self.unsent = b""
        self.received = bytearray()
        self.is_lost = False
        self.transport: MemoryTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("MemoryTransport", transport)

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True

    @property
    def is_quiet(self) -> bool:
        """Whether it has been answered everything."""
        return not self.unsent and len(self.answers()) >= len(self.asked)

    def answers(self) -> list[bytes]:
        """Return each answer so far, the last one as far as it came, their bodies without framing."""
        data, answers = bytes(self.received), []
        while data:
            end, said = _first_answer(data)
            answers.append(said)
            data = data[end:]
        return answers


class Origin(asyncio.Protocol):
    """The other end of one link: the requests that came by it, and how far its answer to the last is."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.received = bytearray()
        self.requests: list[bytes] = []  # whole ones
        self.answered = 0
        self.is_answering = False  # a part of an answer has gone out
        self.is_lost = False
        self._unread = b""
        self.transport: MemoryTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("MemoryTransport", transport)

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._unread += data
        while (end := _request_end(self._unread)) > 0:
            self.requests.append(self._unread[:end])
            self._unread = self._unread[end:]

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True

    @property
    def waits(self) -> bool:
        """Whether a request waits for its answer, or for the rest of one."""
        return not self.is_lost and (self.is_answering or self.answered < len(self.requests))


class Audit(AuditLog):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__("off", 1)
        self.records: list[dict[str, Any]] = []

    def record(self, entry: Record) -> None:
        self.records.append(dict(zip(FIELDS, entry, strict=True)))


class TenantGateway:
    """The gateway, and everything that waits for the schedule."""

    def __init__(self, rng: random.Random, loop: asyncio.AbstractEventLoop) -> None:
        self.rng = rng
        self.failures: list[str] = []
        self.fetches: list[tuple[ResolveRequest, asyncio.Future[Credential]]] = []
        self.dials: list[tuple[int, asyncio.Future[None]]] = []
        self.origins: list[Origin] = []
        self.clients: list[Client] = []
        self.generation = 0  # of the secrets: a rotation makes another
        # Versions that were withdrawn, by how many requests had been made by then: no later one may carry them.
        self.withdrawn: dict[str, int] = {}
        self.audit = Audit()
        loop.set_exception_handler(lambda _, context: self.failures.append(repr(context)))
        self.tasks = TaskSet(lambda name, error: self.failures.append(f"{name}: {error!r}"))
        config, clock = _config(), Clock(loop)
        keys, revocations = KeyRing(_key_set()), Revocations()
        self.parts = parts = cast("Any", GatewayParts)(
            loop=loop,
            clock=clock,
            timeouts=config.timeouts,
            limits=config.limits,
            passthrough_hosts=(),
            scrub=config.scrub,
            tokens=TokenVerifier(keys, issuer="sallyport", audience=AUDIENCE_PROXY, revocations=revocations),
            # Nobody opens a tunnel or a TLS stream here: what comes out of one is a stream with claims.
            tunnel_tokens=None,
            renewal_tokens=None,
            splices=None,
            authorities=None,
            interception=None,
            revocations=revocations,
            plans=PlanHolder(max_sandboxes=10, max_plan_bytes=100_000),
            credentials=self._credentials(clock),
            streams=StreamIndex(max_anonymous=100),
            pipelines=LoopTurns(loop.call_soon),
            codings=LoopTurns(loop.call_soon, CODING_SECONDS),
            upstreams=None,
            dialer=None,
            audit=self.audit,
            metrics=Metrics(),
            denials=Denials(),
            tasks=self.tasks,
            request_prefix="req_",
        )
        self.resolver = Resolver()
        parts.dialer = self._dialer()
        parts.upstreams = self._upstreams()
        self.doorman = ProxyDoorman(parts)

    def _credentials(self, clock: Clock) -> Credentials:
        return Credentials(
            self,
            self.tasks,
            max_entries=self.rng.choice((2, 100)),  # few: then they push each other out
            max_concurrent=16,
            max_each=4,
            timeout_seconds=5,
            now=lambda: clock.wall,
            random=self.rng.random,
            count=lambda result: None,
        )

    def _dialer(self) -> Dialer:
        return Dialer(
            AddressPolicy(allow=(ipaddress.ip_network("127.0.0.0/8"),)),
            self.resolver,
            connect_to={f"{host}:80": ("127.0.0.1", 1 + index) for index, host in enumerate(HOSTS)},
            connect=self._connect,
        )

    def _upstreams(self) -> UpstreamPool:
        return UpstreamPool(
            clock=self.parts.clock,
            dialer=self.parts.dialer,
            context=cast("Any", None),  # every route is over cleartext
            links_per_key=self.rng.choice((1, 2, 100)),  # few: then requests wait for each other's
            idle_per_key=2,
            links_per_owner=self.rng.choice((2, 100)),
            write_buffer_bytes=64 * 1024,
            handshake_timeout=1,
            queue_timeout=5,
            idle_timeout=5,
            observe_connect=lambda seconds: None,
        )

    # What takes time

    async def resolve(self, request: ResolveRequest) -> Credential:
        """Wait for the schedule (gateway.credentials.CredentialSource)."""
        answer: asyncio.Future[Credential] = asyncio.get_running_loop().create_future()
        self.fetches.append((request, answer))
        return await answer

    def credential(self, request: ResolveRequest, expires_at: float | None) -> Credential:
        """Return a credential that says whose it is, in its secret and in the word for its version."""
        whose = ".".join(map(str, (*request.key[:4], self.generation)))
        self.withdrawn.pop(whose, None)
        return Credential(Secret(SECRET + b"." + whose.encode()), expires_at, whose)

    async def _connect(
        self, factory: ProtocolFactory, address: str, port: int
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        loop = asyncio.get_running_loop()
        dialled: asyncio.Future[None] = loop.create_future()
        self.dials.append((port, dialled))
        await dialled
        origin, link = Origin(HOSTS[port - 1]), factory()
        here, _ = memory_pair(loop, link, origin)
        self.origins.append(origin)
        return here, link

    # Who asks

    def client(self, claims: Claims | None) -> Client:
        """Open a stream: with claims as a tunnel does, without as the explicit listener."""
        client = Client(claims)
        doorman = self.doorman
        if claims is None:
            stream = ServedStream(self.parts, mode=Mode.PLAIN, source=SOURCE, doorman=doorman)
        else:
            stream = ServedStream(self.parts, mode=Mode.PLAIN, source=TUNNEL, doorman=doorman, claims=claims)
        memory_pair(self.parts.loop, client, stream)
        self.clients.append(client)
        return client

    async def close(self) -> None:
        """End every stream, link and task; nothing is left."""
        ends: list[Client | Origin] = [*self.clients, *self.origins]
        for end in ends:
            end.transport.abort()
        for _ in range(5):
            await asyncio.sleep(0)
        await self.tasks.close()
        for _ in range(5):
            await asyncio.sleep(0)
        self.parts.clock.close()
        self.resolver.close()


def issued(sandbox_id: str, organization_id: str, lineage: int) -> tuple[bytes, Claims]:
    """Return a proxy token of a sandbox while it was of an organization, and what it says."""
    return _issued(sandbox_id, organization_id, lineage)


@functools.cache
def _issued(sandbox_id: str, organization_id: str, lineage: int) -> tuple[bytes, Claims]:
    token = mint(
        _signing_key(),
        sandbox_id=sandbox_id,
        organization_id=organization_id,
        audience=AUDIENCE_PROXY,
        issuer="sallyport",
        ttl_seconds=1_000_000,
        now=EPOCH,
    ).token
    verifier = TokenVerifier(
        KeyRing(_key_set()), issuer="sallyport", audience=AUDIENCE_PROXY, revocations=Revocations()
    )
    return token.encode(), verifier.verify(token, EPOCH)


@functools.cache
def sealed_plan(sandbox_id: str, organization_id: str, revision: int, bound: tuple[tuple[str, str], ...]) -> bytes:
    """Return a plan that binds these (binding, connection) to the managed hosts in their order."""
    resolver = {"kind": "integration_connection", "secretType": "api_key"}
    routes = [
        route_document(
            f"rule_{organization_id}_{sandbox_id}_{binding_id}",
            bindingId=binding_id,
            match={"hosts": [MANAGED[BINDINGS.index(binding_id)]]},
            credentialResolver=resolver | {"connectionId": connection_id},
            allowCleartext=True,
        )
        for binding_id, connection_id in bound
    ]
    rules = [rule_document(f"open_{organization_id}_{sandbox_id}", "allow", "open.test")]
    document = plan_document(routes, rules, default="deny", revision=revision)
    return seal(document | {"sandboxId": sandbox_id, "organizationId": organization_id})


@functools.cache
def _signing_key() -> Any:  # noqa: ANN401  what sallyport_cli.keys signs with
    return new_private_key()


@functools.cache
def _key_set() -> KeySet:
    return KeySet.from_public_key_pem(public_pem(_signing_key()))


@functools.cache
def _config() -> GatewayConfig:
    return load_config({"tokens": {"public_key": "public.pem"}}, {}, Path("/"))


def _request_end(data: bytes) -> int:
    """Return where the first request of data ends, 0 where not all of it is here."""
    head = data.find(_HEAD_END)
    if head < 0:
        return 0
    length = _LENGTH.search(data[:head])
    end = head + 4 + (0 if length is None else int(length[1]))
    return end if len(data) >= end else 0


def _first_answer(data: bytes) -> tuple[int, bytes]:
    """Return where the first answer of data ends, or data does; and what it says, without the framing of its body."""
    head = data.find(_HEAD_END)
    if head < 0:
        return len(data), data
    said, at = data[: head + 4], head + 4
    if not _CHUNKED.search(said):
        length = _LENGTH.search(said)
        end = min(at + (0 if length is None else int(length[1])), len(data))
        return end, data[:end]
    while (line := data.find(b"\r\n", at)) > 0:
        size, at = int(data[at:line], 16), line + 2
        said += data[at : at + size]
        at += size + 2
        if size == 0:
            return min(at, len(data)), said
    return len(data), said
