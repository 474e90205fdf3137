"""What a gateway makes of its surroundings, and shows of itself: proxies in its environment (T3), leaves (T4)."""

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from demo.certificates import write_origin_files
from tests.support.controlled_gateway import controlled_gateway
from tests.support.egress_ways import SANDBOXD, WAYS, Way, both_ways, connect_head, established, through_sandboxd
from tests.support.gateway_plans import plan, route
from tests.support.gateway_process import GatewayProcess, Setting, gateway_process
from tests.support.origin import RecordingOrigin, recording_origin
from tests.support.plan_documents import rule_document
from tests.support.raw_end import RawOrigin, raw_origin

pytestmark = pytest.mark.timeout(120)

HOST, OTHER_HOST, OPEN_HOST = "api.test", "other.test", "open.test"
SECRET = "credential-of-surroundings"
PLAN = plan(
    [route("r", [HOST, OTHER_HOST], "con_one", allowCleartext=True)], [rule_document("open", "allow", OPEN_HOST)]
)
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "WS_PROXY", "WSS_PROXY")
GET = b"GET /x HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n"


def pointing_at(trap: RawOrigin) -> dict[str, str]:
    """Return the variables by which programs are told of a proxy, in both cases, for every address."""
    url = f"http://127.0.0.1:{trap.port}"
    return {spelled: url for name in VARIABLES for spelled in (name, name.lower())}


@contextlib.asynccontextmanager
async def running(folder: Path, environment: dict[str, str]) -> AsyncIterator[tuple[GatewayProcess, RecordingOrigin]]:
    files = write_origin_files(folder, [HOST, OTHER_HOST])
    async with recording_origin() as plain, recording_origin(files.server_context()) as tls:
        connect_to = {f"{host}:80": f"127.0.0.1:{plain.port}" for host in (HOST, OPEN_HOST)}
        connect_to |= {f"{host}:443": f"127.0.0.1:{tls.port}" for host in (HOST, OTHER_HOST)}
        setting = Setting(
            plan=PLAN,
            credentials={"con_one": SECRET},
            connect_to=connect_to | {f"{OPEN_HOST}:443": f"127.0.0.1:{plain.port}"},
            ca_file=files.ca_file,
            environment=environment,
        )
        process = gateway_process(folder / "gateway", setting)
        gateway = await asyncio.to_thread(process.__enter__)
        try:
            yield gateway, plain
        finally:
            await asyncio.to_thread(process.__exit__, None, None, None)


async def test_t3_a_proxy_in_the_environment_of_a_gateway_hears_nothing(tmp_path: Path) -> None:
    """Inside TLS, in the clear, without a credential, and opaque; the way out is the plan's and the settings' alone."""
    async with (
        raw_origin() as trap,
        running(tmp_path, pointing_at(trap)) as (gateway, plain),
        both_ways(gateway) as ways,
    ):
        for name in WAYS:
            way = ways[name]
            end = await way.inside(f"{HOST}:443", HOST)
            end.send(GET)
            assert (await end.answer()).status == 200
            for host in (HOST, OPEN_HOST):
                end = await way.plain(f"GET http://{host}/x HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                assert (await end.answer()).status == 200
            opaque = await way.connect(connect_head(f"{OPEN_HOST}:443"), "passthrough; revision=1")
            await established(opaque)
            before = len(plain.requests)
            opaque.send(b"\x00 opaque bytes")
            await plain.wait_for_bytes(b"\x00 opaque bytes")
            assert len(plain.requests) == before
        assert trap.ends == []


async def test_t3_nor_is_the_control_plane_asked_by_it(tmp_path: Path) -> None:
    async with (
        raw_origin() as trap,
        controlled_gateway(tmp_path, [PLAN], [HOST], pointing_at(trap)) as scene,
    ):
        scene.control.credentials["con_one"] = {"kind": "value", "value": SECRET, "version": "1"}
        for way in WAYS:
            assert (await scene.ask(way, HOST)).status == 200
        assert trap.ends == []


# ---- leaves


@pytest.mark.parametrize("name", ["explicit", SANDBOXD])
async def test_t4_a_leaf_as_openssl_reads_it(tmp_path: Path, name: str) -> None:
    """Where TLS ends: at the explicit listener, and in a sandbox's own daemon."""
    begun_at = datetime.now(UTC).replace(microsecond=0)
    async with running(tmp_path, {}) as (gateway, _):
        opened = through_sandboxd if name == SANDBOXD else both_ways
        async with opened(gateway) as ways:
            leaves = {host: await leaf_of(ways[name], host) for host in (HOST, OTHER_HOST)}
    serials = set()
    for host, leaf in leaves.items():
        names = openssl(leaf, "-ext", "subjectAltName").split("\n", 1)[1].strip()
        assert names == f"DNS:{host}"
        begins_at = datetime.strptime(openssl(leaf, "-startdate"), "notBefore=%b %d %H:%M:%S %Y GMT").replace(
            tzinfo=UTC
        )
        assert begun_at - timedelta(hours=1) <= begins_at <= datetime.now(UTC) - timedelta(hours=1)
        key = openssl(leaf, "-text")
        assert "ASN1 OID: prime256v1" in key
        assert "NIST CURVE: P-256" in key
        assert "CA:TRUE" not in key
        serials.add(openssl(leaf, "-serial").removeprefix("serial="))
    assert len(serials) == 2
    assert min(map(len, serials)) >= 16, "64 bits of chance at least"


async def leaf_of(way: Way, host: str) -> bytes:
    end = await way.inside(f"{host}:443", host)
    tls = end.writer.get_extra_info("ssl_object")
    assert isinstance(tls, ssl.SSLObject)
    leaf = tls.getpeercert(binary_form=True)
    assert leaf
    return leaf


def openssl(leaf: bytes, *shown: str) -> str:
    command = ["openssl", "x509", "-inform", "DER", "-noout", *shown]
    return subprocess.run(command, input=leaf, capture_output=True, check=True).stdout.decode().strip()
