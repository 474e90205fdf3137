"""Two organizations that call everything alike, at once, over real TLS, on a gateway of one process and of two.

Hosts, paths, bindings and connections have the same names; what differs is whose they are. Each round is a seed: both
sandboxes ask by both ways, are refused, lose their streams, get other plans and other credentials, at random and
without waiting for each other. In the end everything that was said is looked through: what the origins got, by which
link and by which TLS session; what the sandboxes were told; audit, metrics, and the files of the plans.
"""

import asyncio
import contextlib
import hashlib
import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from demo.certificates import write_origin_files
from sallyport.net.clock import Clock
from sallyport.plan.codec import seal
from tests.support.egress_ways import WAYS, connect_head, established
from tests.support.fake_control import FakeControl, authority_document, fake_control
from tests.support.gateway_plans import route
from tests.support.in_process import proxy_token, signed_token, signing_jwk
from tests.support.origin import OK, Answer, RecordingOrigin, Then, recording_origin
from tests.support.plan_documents import plan_document, rule_document
from tests.support.raw_end import RawAnswer, RawEnd
from tests.support.several_processes import Several, controlled
from tests.support.tls_by_hand import trusting
from tests.support.tunnel_client import TunnelClient

pytestmark = [pytest.mark.uvloop, pytest.mark.timeout(300)]

HOSTS = ("a.test", "b.test")
LOST = "lost.test"  # its connection is known to nobody
STEPS = 8
FAST_ROUNDS, ROUNDS = 8, 200
TENANTS = (("org_one", "sbx_one", "first"), ("org_two", "sbx_two", "second"))
# A token of a sandbox, by an organization that it is not of.
NOWHERE = "org_nowhere"


@dataclass(slots=True, eq=False)
class Tenant:
    """A sandbox, all that it holds open, and what it was told; its word stands in whatever is its alone."""

    organization_id: str
    sandbox_id: str
    word: str
    ca_pem: bytes
    tunnel: TunnelClient
    revision: int = 1
    streams: dict[tuple[str, str], RawEnd] = field(default_factory=dict)
    ends: list[RawEnd] = field(default_factory=list)
    answers: list[RawAnswer] = field(default_factory=list)

    @property
    def names(self) -> tuple[bytes, ...]:
        """What nobody else may ever be told."""
        return tuple(name.encode() for name in (self.organization_id, self.sandbox_id, self.word))


def the_plan(organization_id: str, sandbox_id: str, word: str, revision: int) -> bytes:
    routes = [
        route(f"{word}-{host}", [host], f"con_{host[0]}", bindingId=f"bnd_{host[0]}", allowCleartext=True)
        for host in (*HOSTS, LOST)
    ]
    rules = [rule_document(f"{word}-denied", "deny", *HOSTS, pathPrefixes=["/denied"], reason=f"the {word} plan's")]
    document = plan_document(routes, rules, default="deny", revision=revision)
    return seal(document | {"organizationId": organization_id, "sandboxId": sandbox_id})


@dataclass(slots=True, eq=False)
class World:
    """Everything that runs."""

    control: FakeControl
    origin: RecordingOrigin
    several: Several
    tenants: list[Tenant]
    asked: Counter[str] = field(default_factory=Counter)

    # What happens

    async def play(self, seed: int) -> None:
        """Let both go through a few steps at once."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for number, tenant in enumerate(self.tenants):
                    tasks.create_task(self.go(tenant, random.Random(f"{seed}/{number}")), name=tenant.word)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise

    async def go(self, tenant: Tenant, chance: random.Random) -> None:
        for _ in range(STEPS):
            match chance.choice(("keep", "keep", "close", "close", "denied", "lost", "stranger", "plan", "secret")):
                case "plan":
                    tenant.revision += 1
                    plan = the_plan(tenant.organization_id, tenant.sandbox_id, tenant.word, tenant.revision)
                    await self.control.publish(plan)
                case "secret":
                    self.rotate(tenant, chance)
                    await self.control.tell("invalidation", {"kind": "organization", "id": tenant.organization_id})
                case "stranger":
                    await self.ask_as_a_stranger(tenant, chance.choice(HOSTS))
                case how:
                    host = LOST if how == "lost" else chance.choice(HOSTS)
                    status = {"denied": 403, "lost": 502}.get(how, 200)
                    if chance.random() < 0.3:
                        tenant.streams.clear()
                    await self.ask(tenant, chance.choice(WAYS), host, how, status)

    def rotate(self, tenant: Tenant, chance: random.Random) -> None:
        for host in HOSTS:
            secret = f"{tenant.word}-secret-{host[0]}-{chance.randrange(10**6)}"
            value = {"kind": "value", "value": secret, "version": str(chance.random())}
            self.control.credentials[f"{tenant.sandbox_id}/con_{host[0]}"] = value

    async def ask(self, tenant: Tenant, way: str, host: str, how: str, status: int) -> None:
        """Ask where TLS has ended, and read the answer."""
        end = tenant.streams.get((way, host))
        if end is None:
            end = tenant.streams[way, host] = await self.inside(tenant, way, host)
        target = f"/{how}/{sum(self.asked.values())}-{tenant.word}"
        if how == "close":
            self.origin.answers[target] = Answer(parts=(OK,), then=Then.CLOSE)
        end.send(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        answer = await end.answer()
        assert answer.status == status, answer
        self.told(tenant, answer)

    async def inside(self, tenant: Tenant, way: str, host: str) -> RawEnd:
        if way == "tunnel":
            return await tenant.tunnel.inside(f"{host}:443")
        end = await self.connect(tenant, host, tenant.organization_id)
        await established(end)
        await end.start_tls(trusting(tenant.ca_pem, "http/1.1"), host)
        return end

    async def connect(self, tenant: Tenant, host: str, organization_id: str) -> RawEnd:
        token = proxy_token(tenant.sandbox_id, organization_id=organization_id)
        end = await self.several.client()
        first, _, rest = connect_head(f"{host}:443").partition(b"\r\n")
        end.send(first + b"\r\nProxy-Authorization: Bearer " + token.encode() + b"\r\n" + rest)
        return end

    async def ask_as_a_stranger(self, tenant: Tenant, host: str) -> None:
        answer = await (await self.connect(tenant, host, NOWHERE)).answer()
        assert answer.status == 407, answer
        self.told(tenant, answer)

    def told(self, tenant: Tenant, answer: RawAnswer) -> None:
        self.asked[tenant.word] += 1
        tenant.answers.append(answer)

    # What came of it

    def check(self, metrics: str, audit: list[bytes], state_dir: Path) -> None:
        """Look through everything that was said."""
        for tenant in self.tenants:
            strangers = [other for other in self.tenants if other is not tenant]
            own = b"".join(answer.head + answer.body for answer in tenant.answers)
            assert not holds_any(own, strangers)
            lines = [line for line in audit if tenant.sandbox_id.encode() in line]
            assert not holds_any(b"".join(lines), strangers)
            assert len(lines) == self.asked[tenant.word]
            (plan_file,) = state_dir.glob(f"{hashlib.sha256(tenant.sandbox_id.encode()).hexdigest()}.plan")
            assert not holds_any(plan_file.read_bytes(), strangers)
        assert len(audit) == sum(self.asked.values())
        assert len([*state_dir.glob("*.plan")]) == len(self.tenants)
        self.check_links(audit)
        labels = re.findall(r'="([^"]*)"', metrics)
        named = r"org_|sbx_|con_|bnd_|\.test|first|second"
        assert [label for label in labels if re.search(named, label)] == []

    def check_links(self, audit: list[bytes]) -> None:
        """Each link carried one organization's credential, by a TLS session that was that one's, host by host."""
        processes = {
            record["path"]: record["requestId"].rpartition("_")[0]
            for record in map(json.loads, audit)
            if record.get("outcome") == "injected"
        }
        resumed: dict[tuple[str, str | None, str], list[bool]] = defaultdict(list)
        for link in self.origin.links:
            if not link.requests:
                continue  # its process had no use for it any more
            [(word, place)] = {whose(value) for each in link.requests for value in each.head.values("authorization")}
            assert link.sni == f"{place}.test"
            resumed[word, link.sni, processes[link.requests[0].head.target]].append(link.is_resumed)
        assert {key[0] for key in resumed} == {tenant.word for tenant in self.tenants}
        for key, links in resumed.items():
            assert links == [False] + [True] * (len(links) - 1), key


def whose(authorization: bytes) -> tuple[str, str]:
    """Read whose credential it is, and for which host."""
    word, _, place, _ = authorization.decode().removeprefix("Bearer ").split("-")
    return word, place


def holds_any(text: bytes, tenants: list[Tenant]) -> list[bytes]:
    return [name for tenant in tenants for name in tenant.names if name in text]


@contextlib.asynccontextmanager
async def world(folder: Path, *, workers: int) -> AsyncIterator[World]:
    """Start everything, and look through what was said when the block has ended."""
    files = write_origin_files(folder, [*HOSTS, LOST])
    clock = Clock(asyncio.get_running_loop())
    async with fake_control() as control, recording_origin(files.server_context()) as origin:
        control.keys = [{**signing_jwk(), "use": "sig"}]
        for organization_id, sandbox_id, word in TENANTS:
            control.authorities[sandbox_id] = authority_document(folder / "authorities", sandbox_id)
            await control.publish(the_plan(organization_id, sandbox_id, word, 1))
        settings = {
            "url": control.url,
            "token_file": str(control.token_file(folder)),
            "gateway_id": "gw_tenants",
            "state_dir": str(folder / "state"),
        }
        ports = {f"{host}:443": origin.port for host in (*HOSTS, LOST)}

        def gateway() -> contextlib.AbstractAsyncContextManager[Several]:
            return controlled(folder, settings, ports, workers=workers, ca_file=files.ca_file)

        async with gateway() as several:
            await several.until(several.is_ready)
            tenants = []
            for organization_id, sandbox_id, word in TENANTS:
                token = signed_token("sallyport-tunnel", sandbox_id, organization_id=organization_id)
                tunnel, _ = await several.tunnel(clock, token)
                ca_pem = str(control.authorities[sandbox_id]["certificatePem"]).encode()
                tenants.append(Tenant(organization_id, sandbox_id, word, ca_pem, tunnel))
            made = World(control, origin, several, tenants)
            for tenant in tenants:
                made.rotate(tenant, random.Random(tenant.word))
                await made.ask(tenant, "explicit", HOSTS[0], "denied", 403)  # its plan is here, whoever asks next
            yield made
            metrics = await asyncio.to_thread(several.gateway.metrics)
        clock.close()
        made.check(metrics, several.gateway.audit_bytes.splitlines(), folder / "state")
        async with control.away(), gateway() as restarted:
            for tenant in tenants:
                await served_from_disk(restarted, tenant)


async def served_from_disk(several: Several, tenant: Tenant) -> None:
    """Ask a gateway that has heard of no control plane: the plan that was written for this sandbox refuses."""
    token = proxy_token(tenant.sandbox_id, organization_id=tenant.organization_id)
    answer = await several.get(await several.client(), f"http://{HOSTS[0]}/denied", token)
    assert (answer.status, json.loads(answer.body)["egressRuleId"]) == (403, f"{tenant.word}-denied")


async def test_c12_t1_nothing_crosses(tmp_path: Path) -> None:
    async with world(tmp_path, workers=1) as played:
        for seed in range(FAST_ROUNDS):
            await played.play(seed)


@pytest.mark.full
@pytest.mark.parametrize("workers", [1, 2])
async def test_c12_t1_nothing_crosses_in_hundreds_of_rounds(
    tmp_path: Path, workers: int, record_property: Callable[[str, object], None]
) -> None:
    async with world(tmp_path, workers=workers) as played:
        for seed in range(ROUNDS):
            await played.play(seed)
    record_property("tried", ["rounds of two tenants", ROUNDS])
