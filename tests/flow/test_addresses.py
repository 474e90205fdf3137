"""Where a gateway never goes, by the explicit listener and by a tunnel, whatever the plan and the operator allow.

Egress cases H6 and H7 and what stands below them: metadata services, the gateway's own listeners, its control plane,
and circles through an upstream proxy. Each by the three ways that bytes take: injected, forwarded, passed through.
"""

import asyncio
import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sallyport.plan.codec import seal
from sallyport.wire.http1.scan import HEAD_END
from tests.support.fake_control import FakeControl, fake_control
from tests.support.gateway_plans import SANDBOX, plan, route
from tests.support.gateway_process import ROOT, GatewayProcess, Setting, gateway_process
from tests.support.in_process import GatewayInProcess, Settings, in_process_gateway, signed_token, signing_jwk
from tests.support.origin import RecordingOrigin, recording_origin
from tests.support.plan_documents import plan_document, rule_document
from tests.support.sandboxd_in_process import in_process_sandboxd
from tests.support.sides import REFUSED_ADDRESS, SIDES, Side, Told, side_of
from tests.support.staged_network import PUBLIC, StagedNetwork
from tests.support.until import until

SECRET = "canary-127.0.0.1-169.254.169.254+/=Zq"
EVERY_NETWORK = ["0.0.0.0/0", "::/0"]

METADATA = [
    "169.254.169.254",  # AWS, Google Cloud, Azure, Oracle Cloud, DigitalOcean, IBM Cloud, OpenStack and more
    "169.254.170.2",  # AWS ECS
    "169.254.170.23",  # AWS EKS
    "[fd00:ec2::254]",
    "[fd00:ec2::23]",
    "169.254.169.252",  # GKE
    "[fd20:ce::254]",  # Google Cloud
    "168.63.129.16",  # Azure
    "100.100.100.200",  # Alibaba Cloud
    "192.0.0.192",  # Oracle Cloud, classic
    "[fd00:c1::a9fe:a9fe]",
    "169.254.0.23",  # Tencent Cloud
    "169.254.42.42",  # Scaleway
    "metadata.google.internal",
    "METADATA.google.internal.",
    "metadata",
    "instance-data",
    "instance-data.eu-west-1.compute.internal",
    "metadata.azure.internal",
    "metadata.tencentyun.com",
    "api.metadata.cloud.ibm.com",
    "[::ffff:169.254.169.254]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::a9fe:a9fe]",
    "[2002:a9fe:a9fe::1]",
    "[2001:0:a9fe:a9fe::f7f7:f7f7]",
    "[2606:4700::5efe:a9fe:a9fe]",
]
# What a plan can name: its hosts are in their one spelling.
MANAGED = sorted({host.strip("[]").lower().removesuffix(".") for host in METADATA})

AMBIGUOUS = [
    "0x7f.1",
    "0x7f000001",
    "2130706433",
    "017700000001",
    "0177.0.0.1",
    "127.1",
    "127.0.1",
    "127.0.0.01",
    "127.0.0.1.",
    "0",
    "[::1%25eth0]",
    "[fe80::1%eth0]",
    "[fe80::1%251]",
    "[::1",
    "::1",
    "[127.0.0.1]",
    "[v1.x]",
    "127.0.0.1%00.example.com",
    "user@127.0.0.1",
]
INWARD = [
    "127.0.0.1",
    "localhost",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "100.64.0.1",
    "169.254.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "[::]",
    "[::1]",
    "[0000::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2001:0:7f00:1::f7f7:f7f7]",
    "[2606:4700::5efe:7f00:1]",
    "[fe80::1]",
    "[fc00::1]",
    "[ff02::1]",
    "[2001:db8::1]",
]


def managed(*hosts: str, ports: list[int]) -> dict[str, object]:
    """Return a route of these hosts and ports whose requests may go in the clear, so that they can be sent so."""
    match = {"hosts": list(hosts), "ports": ports}
    return route("managed", hosts, "con_one", match=match, allowCleartext=True)


# ---- H7, and the gateway's own listeners

MANAGING = "sbx_managing"
# A listener on every address, and on 127.0.0.1 alone.
EVERYWHERE = ["127.0.0.1", "localhost", "0.0.0.0", "::", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "127.9.9.9", "::1"]
ON_LOOPBACK = ["127.0.0.1", "localhost", "0.0.0.0", "::", "::ffff:127.0.0.1", "64:ff9b::7f00:1"]


def interfaces() -> list[str]:
    """Return what this machine is called from elsewhere, where it has such an address."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
        datagram.connect(("192.0.2.1", 9))  # sends nothing
        return [str(datagram.getsockname()[0])]
    return []


def own_places(gateway: GatewayProcess) -> list[tuple[str, int]]:
    """Return every way to say where the gateway listens."""
    everywhere = [(host, gateway.proxy_port) for host in [*EVERYWHERE, *interfaces()]]
    return everywhere + [(host, port) for host in ON_LOOPBACK for port in (gateway.tunnel_port, gateway.admin_port)]


def detours(gateway: GatewayProcess) -> list[dict[str, object]]:
    """Return routes that lead elsewhere than their hosts say."""
    there = {
        "to-metadata.test": "http://169.254.169.254",
        "to-metadata-name.test": "http://metadata.google.internal",
        "to-listener.test": f"http://127.0.0.1:{gateway.proxy_port}",
        "to-admin.test": f"http://localhost:{gateway.admin_port}",
    }
    return [
        route(host.partition(".")[0], [host], "con_one", upstream={"baseUrl": url}, allowCleartext=True)
        for host, url in there.items()
    ]


@pytest.fixture(scope="module")
def open_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """The operator has opened every network. One sandbox may go anywhere, the plan of the other manages all of it."""
    setting = Setting(
        plan=plan([], [rule_document("metadata", "allow", *MANAGED)], default="passthrough"),
        credentials={"con_one": SECRET},
        further={"listen": {"proxy": "0.0.0.0:0"}, "network": {"allow": EVERY_NETWORK}},
    )
    with gateway_process(tmp_path_factory.mktemp("open"), setting) as gateway:
        places = own_places(gateway)
        hosts = sorted({*MANAGED, *(host for host, _ in places)})
        ports = sorted({80, 443, *(port for _, port in places)})
        routes = [managed(*hosts, ports=ports), *detours(gateway)]
        managing = plan_document(routes, sandboxId=MANAGING)
        assert gateway.put_plan(seal(managing), MANAGING)[0] == 200
        yield gateway


@pytest.mark.parametrize("side", SIDES)
async def test_h7_metadata_services_are_refused_though_plan_and_operator_list_them(
    open_gateway: GatewayProcess, side: str
) -> None:
    async with side_of(open_gateway, side, sandbox_id=MANAGING) as injected:
        for host in METADATA:
            assert await injected.get(f"{host}:80") == REFUSED_ADDRESS, host
            assert await injected.get_inside(f"{host}:80") == REFUSED_ADDRESS, host
    async with side_of(open_gateway, side) as unmanaged:
        for host in METADATA:
            assert await unmanaged.get(f"{host}:80") == REFUSED_ADDRESS, host
            assert await unmanaged.connect(f"{host}:443") == REFUSED_ADDRESS, host


@pytest.mark.parametrize("side", SIDES)
async def test_h7_metadata_services_are_refused_behind_intercepted_tls(open_gateway: GatewayProcess, side: str) -> None:
    # Whose CA it is matters elsewhere: here only that TLS ends at the gateway.
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    trusting.set_alpn_protocols(["http/1.1"])
    async with side_of(open_gateway, side, sandbox_id=MANAGING) as injected:
        for host in ("metadata.google.internal", "169.254.169.254", "[fd00:ec2::254]", "100.100.100.200"):
            assert await injected.get_by_tls(f"{host}:443", trusting) == REFUSED_ADDRESS, host


@pytest.mark.parametrize("side", SIDES)
async def test_a_route_leads_neither_to_metadata_nor_to_a_listener(open_gateway: GatewayProcess, side: str) -> None:
    async with side_of(open_gateway, side, sandbox_id=MANAGING) as injected:
        for detour in detours(open_gateway):
            host = f"{detour['egressRuleId']}.test"
            assert await injected.get(f"{host}:80") == REFUSED_ADDRESS, host
            assert await injected.get_inside(f"{host}:80") == REFUSED_ADDRESS, host


@pytest.mark.parametrize("side", SIDES)
async def test_own_listeners_are_refused_by_every_address_and_name_of_this_machine(
    open_gateway: GatewayProcess, side: str
) -> None:
    authorities = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in own_places(open_gateway)]
    async with side_of(open_gateway, side, sandbox_id=MANAGING) as injected:
        for authority in authorities:
            assert await injected.get(authority) == REFUSED_ADDRESS, authority
            assert await injected.get_inside(authority) == REFUSED_ADDRESS, authority
    async with side_of(open_gateway, side) as unmanaged:
        for authority in authorities:
            assert await unmanaged.get(authority) == REFUSED_ADDRESS, authority
            assert await unmanaged.connect(authority) == REFUSED_ADDRESS, authority


# ---- H6


@pytest.fixture(scope="module")
def closed_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """The plan lets everything through; the operator has opened nothing."""
    hosts = sorted({host.strip("[]") for host in INWARD} - {"0000::1"})
    document = plan([managed(*hosts, ports=[80])], default="passthrough")
    setting = Setting(plan=document, credentials={"con_one": SECRET}, further={"network": {"allow": []}})
    with gateway_process(tmp_path_factory.mktemp("closed"), setting) as gateway:
        yield gateway


@pytest.mark.parametrize("side", SIDES)
async def test_h6_inward_addresses_are_refused_in_every_dress(closed_gateway: GatewayProcess, side: str) -> None:
    async with side_of(closed_gateway, side) as asked:
        for host in INWARD:
            assert await asked.get(f"{host}:80") == REFUSED_ADDRESS, host
            assert await asked.get_inside(f"{host}:80") == REFUSED_ADDRESS, host
            assert await asked.get(f"{host}:8080") == REFUSED_ADDRESS, host
            assert await asked.connect(f"{host}:443") == REFUSED_ADDRESS, host


@pytest.mark.parametrize("side", SIDES)
async def test_h6_spellings_that_resolvers_disagree_about_are_refused(
    closed_gateway: GatewayProcess, side: str
) -> None:
    async with side_of(closed_gateway, side) as asked:
        for host in AMBIGUOUS:
            assert await asked.get(f"{host}:80") == Told(400, "invalid_request"), host
            assert await asked.connect(f"{host}:443") == Told(400, "invalid_request"), host


@pytest.mark.full
@pytest.mark.parametrize("side", SIDES)
async def test_own_listeners_are_refused_by_each_of_several_processes(tmp_path: Path, side: str) -> None:
    setting = Setting(
        plan=plan([], default="passthrough"),
        further={"listen": {"proxy": "0.0.0.0:0"}, "network": {"allow": EVERY_NETWORK}},
        workers=2,
    )
    async with entered(gateway_process(tmp_path, setting)) as gateway:
        for host, port in own_places(gateway):
            authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            # The kernel says which process a stream of the listener comes to; a tunnel stays where it was opened.
            async with side_of(gateway, side) as unmanaged:
                assert await unmanaged.get(authority) == REFUSED_ADDRESS, authority
                assert await unmanaged.connect(authority) == REFUSED_ADDRESS, authority


@contextlib.asynccontextmanager
async def entered[T](block: contextlib.AbstractContextManager[T]) -> AsyncIterator[T]:
    """Enter a blocking block on a thread; tunnels that are open here end meanwhile, and it waits for them."""
    value = await asyncio.to_thread(block.__enter__)
    try:
        yield value
    finally:
        await asyncio.to_thread(block.__exit__, None, None, None)


@pytest.mark.full
def test_an_interface_that_comes_up_after_the_start_leads_to_no_listener(tmp_path: Path) -> None:
    """In a network of its own: interfaces of this machine are not ours to change."""
    apart = ["unshare", "--map-root-user", "--net"]
    if subprocess.run([*apart, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no network namespaces here")
    command = [*apart, sys.executable, "-P", "-m", "tests.support.later_interface", str(tmp_path)]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, timeout=60, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    assert told == {"before": [[502, "upstream_unreachable"]] * 4, "after": [list(REFUSED_ADDRESS)] * 4}


@pytest.mark.parametrize("setting", ["connect_to", "proxy"])
@pytest.mark.parametrize("side", SIDES)
async def test_the_operator_s_own_settings_lead_to_no_listener(tmp_path: Path, side: str, setting: str) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        # Nobody else is given that port, so it is free at the next address.
        admin = f"127.0.0.2:{held.getsockname()[1]}"
        leads_there = {f"{host}:{port}": admin for host in ("managed.test", "open.test") for port in (80, 443)}
        further: Settings = {
            "listen": {"admin": admin},
            "upstream": {"proxy": f"http://{admin}"} if setting == "proxy" else {"connect_to": leads_there},
        }
        document = plan([managed("managed.test", ports=[80])], default="passthrough")
        async with (
            in_process_gateway(tmp_path, plan=document, credentials={"con_one": SECRET}, further=further) as gateway,
            side_of(gateway, side) as asked,
        ):
            assert await each_way(asked) == [REFUSED_ADDRESS] * 3


# ---- the control plane


KEYS_ARE_HERE = 'sallyport_control_requests_total{operation="keys",result="ok"}'


@pytest.fixture
async def control() -> AsyncIterator[FakeControl]:
    async with fake_control() as fake:
        fake.keys = [signing_jwk()]
        fake.credentials["con_one"] = {"kind": "value", "value": SECRET, "version": "v1"}
        yield fake


@pytest.mark.uvloop
@pytest.mark.parametrize("named", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("side", SIDES)
async def test_the_control_plane_is_refused_by_name_and_address_though_everything_is_allowed(
    tmp_path: Path, control: FakeControl, side: str, named: str
) -> None:
    hosts = ["127.0.0.1", "localhost", "control.test", "127.9.9.9", "::ffff:127.0.0.1", "0.0.0.0"]
    injected = ["alias.test", "127.8.8.8"]
    control.plans[SANDBOX] = plan([managed(*injected, ports=[control.port])], default="passthrough")
    settings = {
        "url": f"http://{named}:{control.port}",
        "token_file": str(control.token_file(tmp_path)),
        "gateway_id": "gw_1",
        "state_dir": str(tmp_path / "state"),
    }
    further = {"network": {"allow": EVERY_NETWORK}}
    async with (
        recording_origin() as origin,
        in_process_gateway(tmp_path, control=settings, further=further) as gateway,
    ):
        await until(lambda: gateway.metric(KEYS_ARE_HERE) == 1)
        network = StagedNetwork(lambda host: (PUBLIC,) if host == "public.test" else ("127.0.0.1",), origin.port)
        network.below(gateway)
        before = len(control.asked)
        async with side_of(gateway, side) as asked:
            for host in hosts:
                authority = f"[{host}]:{control.port}" if ":" in host else f"{host}:{control.port}"
                assert await asked.get(authority) == REFUSED_ADDRESS, authority
                assert await asked.connect(authority) == REFUSED_ADDRESS, authority
            for host in injected:
                assert await asked.get(f"{host}:{control.port}") == REFUSED_ADDRESS, host
                assert await asked.get_inside(f"{host}:{control.port}") == REFUSED_ADDRESS, host
            assert network.reached == []
            assert await asked.get(f"public.test:{control.port}") == Told(200, "")
        assert network.reached == [(PUBLIC, control.port)]
        assert "/" not in {path for _, path, _ in control.asked[before:]}


# ---- circles


class CircularProxy:
    """The operator's proxy: it hands every CONNECT on to a port of this machine, as one with a parent proxy does.

    With a token it says who it is; without a port to lead to, it opens what it was asked for at the origin.
    """

    MOST = 25

    def __init__(self, origin_port: int) -> None:
        self.port = 0
        self.heads: list[bytes] = []
        self.leads_to: int | None = None
        self.token = ""
        self._origin_port = origin_port

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        with contextlib.closing(writer), contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(HEAD_END)
            self.heads.append(head)
            if len(self.heads) > self.MOST:
                return
            further, onwards = await asyncio.open_connection("127.0.0.1", self.leads_to or self._origin_port)
            with contextlib.closing(onwards):
                if self.leads_to is None:
                    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                else:
                    says = f"Proxy-Authorization: Bearer {self.token}\r\n" if self.token else ""
                    onwards.write(head[:-2] + says.encode() + b"\r\n")
                async with asyncio.TaskGroup() as both:
                    both.create_task(_copy(reader, onwards), name="there")
                    both.create_task(_copy(further, writer), name="back")


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()


@contextlib.asynccontextmanager
async def circular_proxy() -> AsyncIterator[tuple[CircularProxy, RecordingOrigin]]:
    """Run the proxy, and an origin for what it does not lead on."""
    async with recording_origin() as origin:
        proxy = CircularProxy(origin.port)
        server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
        proxy.port = server.sockets[0].getsockname()[1]
        try:
            yield proxy, origin
        finally:
            server.close()
            server.abort_clients()


def behind(proxy: CircularProxy, folder: Path) -> contextlib.AbstractAsyncContextManager[GatewayInProcess]:
    """Run a gateway behind that proxy, with a host for each of the ways."""
    document = plan([managed("managed.test", ports=[80])], default="passthrough")
    upstream = {"proxy": f"http://127.0.0.1:{proxy.port}"}
    return in_process_gateway(folder, plan=document, credentials={"con_one": SECRET}, further={"upstream": upstream})


async def each_way(asked: Side) -> list[Told]:
    """Ask for an injected, a forwarded and an opaque exchange."""
    return [await asked.get("managed.test:80"), await asked.get("open.test:80"), await asked.connect("open.test:443")]


ASKED_ONCE_EACH = [b"managed.test:80", b"open.test:80", b"open.test:443"]
NO_WAY = [Told(502, "upstream_unreachable")] * 3


@pytest.mark.parametrize("side", SIDES)
async def test_a_proxy_that_leads_back_to_the_gateway_is_asked_once(tmp_path: Path, side: str) -> None:
    async with circular_proxy() as (proxy, origin), behind(proxy, tmp_path) as gateway, side_of(gateway, side) as asked:
        proxy.leads_to, proxy.token = gateway.gateway.proxy.port, gateway.token
        assert await each_way(asked) == NO_WAY
        assert [head.split(b" ")[1] for head in proxy.heads] == ASKED_ONCE_EACH
        assert origin.links == []
        records = await gateway.audit.until(6)
        assert [record["code"] for record in records] == ["invalid_request", "upstream_unreachable"] * 3


async def test_a_proxy_that_leads_to_the_sandbox_s_daemon_is_asked_once(tmp_path: Path) -> None:
    """The daemon wants no token: nothing but the marker ends that circle."""
    (tmp_path / "sandbox").mkdir()
    async with circular_proxy() as (proxy, origin), behind(proxy, tmp_path) as gateway:
        assert gateway.gateway.tunnel is not None
        url, token = f"ws://127.0.0.1:{gateway.gateway.tunnel.port}", signed_token("sallyport-tunnel")
        async with in_process_sandboxd(tmp_path / "sandbox", url, token=token) as sandboxd:
            await sandboxd.managed(1)
            proxy.leads_to = sandboxd.port
            assert await each_way(Side(sandboxd.port, token, None)) == NO_WAY
            async with side_of(gateway, "explicit") as asked:
                assert await each_way(asked) == NO_WAY
        assert [head.split(b" ")[1] for head in proxy.heads] == ASKED_ONCE_EACH * 2
        assert origin.links == []


@pytest.mark.parametrize("side", SIDES)
async def test_the_proxy_alone_sees_the_marker_and_an_origin_sees_nothing_of_ours(tmp_path: Path, side: str) -> None:
    async with circular_proxy() as (proxy, origin), behind(proxy, tmp_path) as gateway, side_of(gateway, side) as asked:
        assert await each_way(asked) == [Told(200, "")] * 3
        assert [head.count(b"\r\nSallyport-Hop: 1\r\n") for head in proxy.heads] == [1, 1, 1]
        assert SECRET.encode() in origin.received
        received = origin.received.lower()
        for ours in (b"sallyport", b"via:", b"forwarded", b"proxy-"):
            assert ours not in received, received


@pytest.mark.parametrize("side", SIDES)
async def test_who_comes_with_the_marker_is_refused(closed_gateway: GatewayProcess, side: str) -> None:
    async with side_of(closed_gateway, side) as asked:
        for name in (b"Sallyport-Hop: 1", b"SALLYPORT_HOP: 1", b"Sallyport-Hop:"):
            for line in (b"GET http://open.test/", b"CONNECT open.test:443"):
                end = await asked.send(line + b" HTTP/1.1\r\nHost: open.test\r\n" + name + b"\r\n\r\n")
                answer = await end.answer()
                assert (answer.status, answer.value("X-Sallyport-Error")) == (400, "invalid_request")
