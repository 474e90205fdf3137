"""The way out of a sandbox: programs, a real sandboxd, a real gateway, origins. Everything meets over sockets."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.renewal import RenewedTokens
from tests.support.command import command
from tests.support.gateway_plans import SANDBOX, plan, route
from tests.support.in_process import GatewayInProcess, in_process_gateway, origin_context, signed_token
from tests.support.plan_documents import rule_document
from tests.support.raw_end import RawOrigin, raw_origin
from tests.support.sandboxd_in_process import SandboxdInProcess, in_process_sandboxd
from tests.support.token_issuer import ScriptedIssuer
from tests.support.until import until

pytestmark = pytest.mark.uvloop

SECRET = "s3cr3t-of-the-route"
ROUTE = route("managed", ["api.test"], "con_one", match={"hosts": ["api.test"], "pathPrefixes": ["/v1"]})
RULES = [rule_document("open", "allow", "open.test"), rule_document("plain", "allow", "plain.test")]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET /v1/a HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer placeholder\r\n\r\n"


@pytest.fixture
async def secure() -> AsyncIterator[RawOrigin]:
    """The managed origin, behind TLS."""
    async with raw_origin(origin_context("api.test")) as origin:
        yield origin


@pytest.fixture
async def plain() -> AsyncIterator[RawOrigin]:
    """Every other origin: bytes are bytes."""
    async with raw_origin() as origin:
        yield origin


@pytest.fixture
async def gateway(tmp_path: Path, secure: RawOrigin, plain: RawOrigin) -> AsyncIterator[GatewayInProcess]:
    (tmp_path / "gateway").mkdir()
    reached = {
        "api.test:443": secure.port,
        "open.test:443": plain.port,
        "plain.test:80": plain.port,
        "new.test:443": plain.port,
    }
    async with in_process_gateway(
        tmp_path / "gateway",
        plan=plan([ROUTE], RULES),
        credentials={"con_one": SECRET},
        connect_to=reached,
    ) as gateway:
        yield gateway


@pytest.fixture
async def sandboxd(tmp_path: Path, gateway: GatewayInProcess) -> AsyncIterator[SandboxdInProcess]:
    (tmp_path / "sandbox").mkdir()
    assert gateway.gateway.tunnel is not None
    url = f"ws://127.0.0.1:{gateway.gateway.tunnel.port}"
    async with in_process_sandboxd(
        tmp_path / "sandbox",
        url,
        token=signed_token("sallyport-tunnel", SANDBOX),
        settings={"SALLYPORT_TIMEOUTS_HOLD": "1s"},
    ) as sandboxd:
        await sandboxd.managed(1)
        yield sandboxd


# ---- each way a request can go


async def test_a_credential_is_injected_behind_the_tunnel(sandboxd: SandboxdInProcess, secure: RawOrigin) -> None:
    client = await sandboxd.inside("api.test:443")
    for _ in range(2):  # kept alive
        client.send(GET)
        link = secure.ends[0] if secure.ends else await secure.link()
        head = await link.head()
        assert head.count(b"uthorization:") == 1
        assert f"Authorization: Bearer {SECRET}\r\n".encode() in head
        link.send(OK)
        assert (await client.answer()).body == b"ok"


async def test_a_passthrough_carries_bytes_and_no_credential(
    sandboxd: SandboxdInProcess, plain: RawOrigin, gateway: GatewayInProcess
) -> None:
    client = await sandboxd.connect("open.test:443")
    link = await plain.link()
    assert (await client.head()).startswith(b"HTTP/1.1 200 ")
    client.send(b"hello")
    client.end()
    assert await link.rest() == b"hello"
    link.send(b"and back")
    link.close()
    assert await client.rest() == b"and back"
    (record,) = await gateway.audit.until(1)
    assert (record["source"], record["mode"], record["decision"]) == ("tunnel", "passthrough", "forward")


async def test_plain_requests_share_a_connection(sandboxd: SandboxdInProcess, plain: RawOrigin) -> None:
    client = await sandboxd.client()
    for number in range(2):
        client.send(b"GET http://plain.test/%d HTTP/1.1\r\nHost: plain.test\r\n\r\n" % number)
        link = plain.ends[0] if plain.ends else await plain.link()
        assert (await link.head()).startswith(b"GET /%d HTTP/1.1\r\n" % number)
        link.send(OK)
        assert (await client.answer()).body == b"ok"


async def test_a1_cleartext_inside_a_connect_is_an_http_request(sandboxd: SandboxdInProcess) -> None:
    client = await sandboxd.connect("api.test:80")
    await client.head()
    client.send(GET)
    answer = await client.answer()
    assert (answer.status, answer.value("X-Sallyport-Error")) == (403, "cleartext_refused")


@pytest.mark.parametrize(
    ("authority", "status", "code"), [("refused.test:443", 403, "denied_by_plan"), ("open.test:444", 403, None)]
)
async def test_what_the_plan_refuses_is_told_instead_of_the_200(
    sandboxd: SandboxdInProcess, authority: str, status: int, code: str | None
) -> None:
    answer = await (await sandboxd.connect(authority)).answer()
    assert code is None or (answer.status, answer.value("X-Sallyport-Error")) == (status, code)
    assert answer.status >= 400


async def test_what_is_refused_on_a_managed_host_is_told_inside_tls(
    sandboxd: SandboxdInProcess, secure: RawOrigin
) -> None:
    client = await sandboxd.inside("api.test:443")
    client.send(b"GET /elsewhere HTTP/1.1\r\nHost: api.test\r\n\r\n")
    answer = await client.answer()
    assert (answer.status, json.loads(answer.body)["code"]) == (403, "denied_by_plan")
    client.send(b"GET /v1/a HTTP/1.1\r\nHost: other.test\r\n\r\n")
    assert (await client.answer()).value("X-Sallyport-Error") == "authority_mismatch"
    assert secure.ends == []


# ---- plans change


async def test_a_host_that_becomes_managed_is_intercepted_from_then_on(
    sandboxd: SandboxdInProcess, gateway: GatewayInProcess, plain: RawOrigin
) -> None:
    gateway.parts.plans.apply(plan([ROUTE, route("new", ["new.test"], "con_one")], RULES, revision=2))
    await sandboxd.managed(2)
    await sandboxd.inside("new.test:443")


async def test_a_set_that_has_grown_old_is_answered_and_asked_again(
    sandboxd: SandboxdInProcess, gateway: GatewayInProcess, secure: RawOrigin
) -> None:
    # The new set has not arrived when the stream is opened.
    old = sandboxd.parts.gateway.managed
    assert old is not None
    gateway.parts.plans.apply(plan([route("managed", ["only.test"], "con_one")], RULES, revision=2))
    await sandboxd.managed(2)
    sandboxd.parts.gateway.managed = old
    client = await sandboxd.connect("only.test:443")
    # It was opened as a passthrough by the old set; the gateway said 421.
    await asyncio.sleep(0.05)
    assert await client.is_quiet()
    gateway.parts.plans.apply(plan([route("managed", ["only.test"], "con_one")], RULES, revision=3))
    assert (await client.head()).startswith(b"HTTP/1.1 200 ")
    await client.start_tls(sandboxd.trust(), "only.test")


# ---- losses


async def test_a_tunnel_that_is_lost_takes_its_streams_and_the_next_request_works(
    sandboxd: SandboxdInProcess, gateway: GatewayInProcess, secure: RawOrigin
) -> None:
    client = await sandboxd.inside("api.test:443")
    client.send(GET)
    link = await secure.link()
    await link.head()
    link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    await client.until(b"half")
    tunnel = sandboxd.parts.gateway.tunnel
    assert tunnel is not None
    tunnel.transport.abort()  # type: ignore[attr-defined]  # an Opener is a Tunnel here
    assert await client.gone() == b"", "nothing looks like the rest of it"
    again = await sandboxd.inside("api.test:443")
    again.send(GET)
    second = await secure.link()
    await second.head()
    second.send(OK)
    assert (await again.answer()).body == b"ok"


async def test_a_gateway_that_comes_back_elsewhere_in_time_is_waited_for(tmp_path: Path, secure: RawOrigin) -> None:
    """Killed and started again at the same port: what is asked meanwhile is held."""
    for name in ("one", "sandbox"):
        (tmp_path / name).mkdir()
    reached = {"api.test:443": secure.port}
    document = plan([ROUTE], RULES)
    port = 0
    async with in_process_gateway(
        tmp_path / "one", plan=document, credentials={"con_one": SECRET}, connect_to=reached
    ) as first:
        assert first.gateway.tunnel is not None
        port = first.gateway.tunnel.port
        running = in_process_sandboxd(
            tmp_path / "sandbox", f"ws://127.0.0.1:{port}", token=signed_token("sallyport-tunnel", SANDBOX)
        )
        sandboxd = await running.__aenter__()
        await sandboxd.managed(1)
    try:
        await until(lambda: sandboxd.parts.gateway.tunnel is None)
        client = await sandboxd.inside("api.test:443")
        client.send(GET)
        further = {"listen": {"tunnel": f"127.0.0.1:{port}"}}
        async with in_process_gateway(
            tmp_path / "one",
            plan=document,
            credentials={"con_one": SECRET},
            connect_to=reached,
            further=further,
        ):
            link = await secure.link()
            assert SECRET.encode() in await link.head()
            link.send(OK)
            assert (await client.answer()).body == b"ok"
    finally:
        await running.__aexit__(None, None, None)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each request with its own path, in pieces."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            path = head.split(b" ")[1]
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 * len(path)))
            for _ in range(64):
                writer.write(path)
                await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.transport.abort()


async def test_tunnels_are_lost_under_load_and_no_answer_is_cut_crossed_or_stuck(tmp_path: Path) -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    for name in ("gateway", "sandbox"):
        (tmp_path / name).mkdir()
    whole, cut = 0, 0
    async with in_process_gateway(
        tmp_path / "gateway",
        plan=plan([ROUTE], RULES),
        credentials={"con_one": SECRET},
        connect_to={"plain.test:80": server.sockets[0].getsockname()[1]},
    ) as gateway:
        assert gateway.gateway.tunnel is not None
        url = f"ws://127.0.0.1:{gateway.gateway.tunnel.port}"
        token = signed_token("sallyport-tunnel", SANDBOX)
        async with in_process_sandboxd(tmp_path / "sandbox", url, token=token) as sandboxd:
            await sandboxd.managed(1)

            async def ask(worker: int) -> None:
                nonlocal whole, cut
                for number in range(12):
                    path = b"/%d-%d" % (worker, number)
                    client = await sandboxd.ask(b"GET http://plain.test%b HTTP/1.1\r\nHost: plain.test\r\n\r\n" % path)
                    try:
                        answer = await client.answer()
                    except (ConnectionError, asyncio.IncompleteReadError):
                        cut += 1  # told as a reset, never as an end
                    else:
                        assert answer.body == path * 64
                        whole += 1
                    client.close()

            async def lose() -> None:
                for _ in range(6):
                    await asyncio.sleep(0.05)
                    tunnel = sandboxd.parts.gateway.tunnel
                    if tunnel is not None:
                        tunnel.transport.abort()  # type: ignore[attr-defined]  # an Opener is a Tunnel here

            async with asyncio.timeout(30), asyncio.TaskGroup() as group:
                group.create_task(lose())
                for worker in range(16):
                    group.create_task(ask(worker))
            assert whole + cut == 16 * 12
            assert whole > cut
            await until(lambda: not sandboxd.parts.captured)
    server.close()


# ---- tokens


def renewed(name: str) -> RenewedTokens:
    now = int(time.time_ns() / 1e9)
    return RenewedTokens(
        token=signed_token("sallyport-tunnel", SANDBOX, ttl_seconds=900),
        expires_at=now + 900,
        renewal_token=f"renewal-{name}",
        renewal_expires_at=now + 86400,
    )


async def test_a_token_is_renewed_and_a_lost_answer_asked_for_again(
    sandboxd: SandboxdInProcess, gateway: GatewayInProcess
) -> None:
    issuer = ScriptedIssuer()
    issuer.serve(gateway)
    keeper = sandboxd.sandboxd.client.tokens
    keeper.renewal._renew_at = 0.0  # half of its life has passed
    first = await issuer.asked()
    tunnel = sandboxd.parts.gateway.tunnel
    assert tunnel is not None
    tunnel.transport.abort()  # type: ignore[attr-defined]  # an Opener is a Tunnel here
    second = await issuer.asked()
    assert second.request_id == first.request_id, "the control plane gives the same answer for the same id"
    assert first.renewal_token is second.renewal_token is None
    second.settle(renewed("one"))
    await until(lambda: keeper.renewal.tokens.renewal == "renewal-one")
    assert json.loads((sandboxd.state / "renewal.json").read_bytes())["renewalToken"] == "renewal-one"


async def test_a_tunnel_whose_token_was_refused_does_not_come_about(tmp_path: Path, gateway: GatewayInProcess) -> None:
    (tmp_path / "sandbox").mkdir()
    assert gateway.gateway.tunnel is not None
    url = f"ws://127.0.0.1:{gateway.gateway.tunnel.port}"
    settings = {"SALLYPORT_TIMEOUTS_HOLD": "300ms"}
    token = signed_token("sallyport-proxy", SANDBOX)  # for another audience
    async with in_process_sandboxd(tmp_path / "sandbox", url, token=token, settings=settings) as sandboxd:
        answer = await (await sandboxd.connect("open.test:443")).answer()
        assert (answer.status, answer.value("X-Sallyport-Error")) == (503, "plan_unavailable")


# ---- real programs


PROGRAM_SECONDS = 20.0


async def program(sandboxd: SandboxdInProcess, *line: str) -> tuple[int, bytes]:
    """Run a program with the variables of a sandbox, which hold no token, and return its status and output."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(sandboxd.state), "PYTHONPATH": os.getcwd()}
    address = str(sandboxd.sandboxd.proxy_address)
    environment |= sandboxd.sandboxd.trust.environment(address)
    process = await asyncio.create_subprocess_exec(
        *line, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(PROGRAM_SECONDS):
        output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output


PYTHON = """
import urllib.request
print(urllib.request.urlopen("https://api.test/v1/a", timeout=10).read().decode())
"""


@pytest.mark.parametrize(
    "line",
    [("curl", "-sS", "--max-time", "10", "https://api.test/v1/a"), ("python3", "-c", PYTHON)],
    ids=["curl", "python"],
)
async def test_a_program_gets_its_credential_without_a_token(
    sandboxd: SandboxdInProcess, secure: RawOrigin, line: tuple[str, ...]
) -> None:
    running = asyncio.get_running_loop().create_task(program(sandboxd, *line))
    link = await secure.link(PROGRAM_SECONDS)
    assert f"Authorization: Bearer {SECRET}\r\n".encode() in await link.head()
    link.send(OK)
    assert await running == (0, b"ok" if line[0] == "curl" else b"ok\n")


async def test_run_leads_a_command_through_the_sandboxd_of_its_machine(
    sandboxd: SandboxdInProcess, secure: RawOrigin
) -> None:
    through = command(
        "run", "--sandboxd", sandboxd.sandboxd.proxy_address, "--", "curl", "-sS", "https://api.test/v1/a"
    )
    running = asyncio.get_running_loop().create_task(program(sandboxd, *through))
    link = await secure.link(PROGRAM_SECONDS)
    assert f"Authorization: Bearer {SECRET}\r\n".encode() in await link.head()
    link.send(OK)
    assert await running == (0, b"ok")
