"""A real sandboxd over a tunnel with TLS: what it carries, and a gateway that it must not believe."""

import json
import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from demo.certificates import OriginFiles, write_origin_files
from tests.support.gateway_plans import SANDBOX, plan, route
from tests.support.in_process import GatewayInProcess, in_process_gateway, origin_context, signed_token
from tests.support.raw_end import RawEnd, RawOrigin, raw_origin
from tests.support.sandboxd_in_process import in_process_sandboxd
from tests.support.tunnel_client import dial_tunnel
from tests.support.until import until

pytestmark = pytest.mark.uvloop

SECRET = "s3cr3t-of-the-route"
ROUTE = route("managed", ["api.test"], "con_one", match={"hosts": ["api.test"]})
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
async def origin() -> AsyncIterator[RawOrigin]:
    async with raw_origin(origin_context("api.test")) as origin:
        yield origin


@pytest.fixture
def files(tmp_path: Path) -> OriginFiles:
    (tmp_path / "tls").mkdir()
    return write_origin_files(tmp_path / "tls", ["localhost"])


@pytest.fixture
async def gateway(tmp_path: Path, files: OriginFiles, origin: RawOrigin) -> AsyncIterator[GatewayInProcess]:
    (tmp_path / "gateway").mkdir()
    tls = {"certificate_file": str(files.certificate_file), "key_file": str(files.key_file)}
    async with in_process_gateway(
        tmp_path / "gateway",
        plan=plan([ROUTE], []),
        credentials={"con_one": SECRET},
        connect_to={"api.test:443": origin.port},
        further={"tunnel": {"tls": tls}},
    ) as gateway:
        yield gateway


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def settings(ca_file: Path) -> dict[str, str]:
    return {"SALLYPORT_GATEWAY_CA_FILE": str(ca_file)}


def tunnel_url(gateway: GatewayInProcess, host: str) -> str:
    assert gateway.gateway.tunnel is not None
    return f"wss://{host}:{gateway.gateway.tunnel.port}"


async def test_an_injected_request_goes_through(
    tmp_path: Path, gateway: GatewayInProcess, files: OriginFiles, origin: RawOrigin
) -> None:
    token = signed_token("sallyport-tunnel", SANDBOX)
    url = tunnel_url(gateway, "localhost")
    async with in_process_sandboxd(tmp_path, url, token=token, settings=settings(files.ca_file)) as sandboxd:
        await sandboxd.managed(1)
        client = await sandboxd.inside("api.test:443")
        client.send(b"GET /v1/a HTTP/1.1\r\nHost: api.test\r\n\r\n")
        link = await origin.link()
        assert f"Authorization: Bearer {SECRET}\r\n".encode() in await link.head()
        link.send(OK)
        assert (await client.answer()).body == b"ok"
        (record,) = await gateway.audit.until(1)
        assert (record["source"], record["mode"]) == ("tunnel", "intercepted")


@pytest.mark.parametrize(
    ("host", "authority", "words"),
    [("127.0.0.1", "own", "IP address mismatch"), ("localhost", "other", "unable to get local issuer certificate")],
    ids=["a wrong name", "a wrong authority"],
)
async def test_a_gateway_that_is_not_the_one_is_refused_and_the_log_says_why(
    tmp_path: Path,
    gateway: GatewayInProcess,
    files: OriginFiles,
    capsys: pytest.CaptureFixture[str],
    host: str,
    authority: str,
    words: str,
) -> None:
    ca_file = files.ca_file
    if authority == "other":
        (tmp_path / "other").mkdir()
        ca_file = write_origin_files(tmp_path / "other", ["localhost"]).ca_file
    said: list[dict[str, object]] = []

    def has_said() -> bool:
        said.extend(json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{"))
        return any(line["event"] == "gateway_unreachable" for line in said)

    token = signed_token("sallyport-tunnel", SANDBOX)
    url = tunnel_url(gateway, host)
    async with in_process_sandboxd(tmp_path, url, token=token, settings=settings(ca_file)) as sandboxd:
        await until(has_said)
        assert sandboxd.parts.gateway.tunnel is None
    line = next(line for line in said if line["event"] == "gateway_unreachable")
    assert words in str(line["detail"])
    assert url.rpartition(":")[2] in str(line["gateway"])
    assert token not in str(said)
    assert len(gateway.parts.tunnels) == 0


async def test_t5_hellos_that_claim_to_be_long_cost_nothing_and_end_no_other(
    gateway: GatewayInProcess, files: OriginFiles
) -> None:
    """OpenSSL makes room for as much as a client claims to send, so it hears of none before it has come."""
    assert gateway.gateway.tunnel is not None
    port = gateway.gateway.tunnel.port
    trust = ssl.create_default_context(cafile=str(files.ca_file))
    trust.check_hostname = False
    tunnel = await dial_tunnel(gateway.parts.clock, port, signed_token("sallyport-tunnel"), tls=trust)
    claim = bytes.fromhex("1603010010") + b"\x01" + (131_000).to_bytes(3) + bytes(12)
    for _ in range(3):
        sockets = [await RawEnd.dial(port) for _ in range(100)]
        before = resident_bytes()
        for socket in sockets:
            socket.send(claim)
        for socket in sockets:
            assert await socket.gone() == b""
            socket.close()
        assert resident_bytes() - before < 4 * 1024 * 1024
    assert gateway.parts.streams.open == 1
    end = tunnel.ask(b"GET http://open.test/ HTTP/1.1\r\nHost: open.test\r\n\r\n")
    assert (await end.answer()).status == 403
    tunnel.abort()
