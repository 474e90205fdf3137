"""Two sandboxes of two organizations on one gateway: each has its own credential, its own plan and its own end.

What one of them does, by mistake or on purpose, is felt by nobody else.
"""

import asyncio
import base64
import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from control_client.documents import DocumentError
from demo.certificates import write_origin_files
from sallyport.net.clock import Clock
from sallyport.net.websocket_upgrade import upgrade_request
from sallyport.plan.codec import seal
from sallyport.wire import websocket
from sallyport.wire.websocket import PROTOCOL, REVOKED
from sallyport.wire.yamux.frames import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    MAX_DATA_BYTES_TAKEN,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
    frame_header,
)
from sallyport_cli.keys import new_private_key
from tests.support import signed_tokens
from tests.support.background import in_background
from tests.support.figures import InTime, figure
from tests.support.gateway_plans import ORGANIZATION, SANDBOX, route
from tests.support.gateway_process import Setting
from tests.support.load_origin import LoadOrigin, load_origin
from tests.support.operator import Operator
from tests.support.plan_documents import plan_document
from tests.support.raw_end import RawEnd
from tests.support.sandbox_program import Program, ask_once
from tests.support.sandboxd_process import SandboxdProcess, sandboxd_process
from tests.support.tunnel_client import OpeningRefused, TunnelClient, dial_tunnel
from tests.support.until import until
from tests.support.up_process import UpProcess, up_process

# Four processes start one after the other, on a machine that may be busy with other tests.
pytestmark = pytest.mark.timeout(120)


HOST = "api.load.test"
AUTHORITY = f"{HOST}:443"
SECRETS = {
    "con_one": "secret-of-organization-one-1f",
    "con_next": "next-secret-of-organization-one-2e",
    "con_two": "secret-of-organization-two-3d",
    "con_brief": "secret-that-is-soon-revoked-4c",
}
# Contracts: a revocation takes effect on what is open within a second. Held to it under `--full`.
REVOKED_WITHIN_SECONDS = 1.0
# No bound on anything but the patience of a test.
PATIENCE_SECONDS = 30.0
ANSWERED_WITHIN_SECONDS = 1.0
# More than every window and every kernel on the way holds.
UNREAD_BYTES = 32 * 1024 * 1024
BIG = b"GET /bytes/1000000000 HTTP/1.1\r\nHost: api.load.test\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenants:
    """Everything runs: the parts by `up` with the first sandbox, and a second sandboxd beside them."""

    up: UpProcess
    operator: Operator
    second: SandboxdProcess
    origin: LoadOrigin

    def program(self, sandbox: int) -> Program:
        """Be a program of the first or the second sandbox."""
        return Program(*self._way(sandbox), HOST)

    def ask(self, sandbox: int) -> str:
        """Ask once, and return which credential arrived."""
        answered = ask_once(*self._way(sandbox), HOST)
        assert answered.status == 200, answered
        return answered.body.decode()

    def _way(self, sandbox: int) -> tuple[str, Path]:
        if sandbox == 1:
            return self.up.addresses["sandboxd"], self.up.sandboxd_state / "ca.pem"
        return self.second.proxy_url, self.second.ca_file

    @property
    def tunnel_port(self) -> int:
        return int(self.up.addresses["tunnel"].rpartition(":")[2])


def the_plan(
    connection_id: str, *, revision: int = 1, sandbox_id: str = SANDBOX, organization_id: str = ORGANIZATION
) -> bytes:
    """Hosts, rules and bindings are called alike in every sandbox's plan."""
    routes = [route("load", [HOST], connection_id)]
    return seal(
        plan_document(routes, default="deny", revision=revision, sandboxId=sandbox_id, organizationId=organization_id)
    )


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenants]:
    folder = tmp_path_factory.mktemp("tenants")
    files = write_origin_files(folder, [HOST])
    labels = {secret: connection_id for connection_id, secret in SECRETS.items()}
    with in_background(load_origin(labels, files.server_context())) as origin:
        setting = Setting(
            plan=the_plan("con_one"),
            credentials={name: SECRETS[name] for name in ("con_one", "con_next")},
            connect_to={AUTHORITY: f"127.0.0.1:{origin.port}"},
            ca_file=files.ca_file,
        )
        with up_process(folder / "up", setting) as up:
            operator = Operator(up)
            operator.make_sandbox("sbx_two", "org_two")
            operator.make_connection("org_two", "con_two", SECRETS["con_two"])
            operator.put_plan(the_plan("con_two", sandbox_id="sbx_two", organization_id="org_two"))
            tokens = operator.mint("sbx_two")
            with sandboxd_process(folder / "second", up.addresses["tunnel"], tokens) as second:
                yield Tenants(up=up, operator=operator, second=second, origin=origin)


@pytest.fixture
def sandbox_id(tenants: Tenants, _numbers: Iterator[int] = count()) -> str:  # noqa: B008  one counter for all
    """Make a sandbox that a test may ruin."""
    name = f"sbx_brief{next(_numbers)}"
    tenants.operator.make_sandbox(name, ORGANIZATION)
    return name


@contextlib.asynccontextmanager
async def live_tunnel(port: int, token: str) -> AsyncIterator[TunnelClient]:
    """Open a tunnel; raises OpeningRefused."""
    clock = Clock(asyncio.get_running_loop())
    try:
        client = await dial_tunnel(clock, port, token)
        try:
            yield client
        finally:
            client.abort()
            assert client.socket is not None
            client.socket.close()
    finally:
        clock.close()


# ---- each its own


def test_each_gets_its_own_credential_under_interleaved_load(tenants: Tenants) -> None:
    def ask_often(sandbox: int) -> set[str]:
        with tenants.program(sandbox) as program:
            return {program.ask().body.decode() for _ in range(60)}

    with ThreadPoolExecutor(8) as pool:
        sandboxes = [1, 2] * 4
        seen = list(zip(sandboxes, pool.map(ask_often, sandboxes), strict=True))
    assert {label for sandbox, labels in seen if sandbox == 1 for label in labels} <= {"con_one", "con_next"}
    assert [labels for sandbox, labels in seen if sandbox == 2] == [{"con_two"}] * 4


def test_a_connection_of_another_organization_is_of_no_use(tenants: Tenants) -> None:
    with pytest.raises(DocumentError) as refused:
        tenants.operator.make_connection("org_two", "con_one", "an attempt to take it over")
    assert refused.value.status == 409
    before = tenants.origin.asked
    tenants.operator.make_sandbox("sbx_thief", "org_two")
    stolen = the_plan("con_one", sandbox_id="sbx_thief", organization_id="org_two")
    with contextlib.suppress(DocumentError):  # it may be refused here already
        tenants.operator.put_plan(stolen)

    async def steal() -> str:
        token = tenants.operator.mint("sbx_thief")["token"]
        async with live_tunnel(tenants.tunnel_port, token) as tunnel:
            end = tunnel.connect(AUTHORITY, "intercepted; revision=1")
            head = await end.head()
            if not head.startswith(b"HTTP/1.1 200 "):
                return head.decode()
            end.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            return (await end.answer()).value("X-Sallyport-Error")

    told = asyncio.run(steal())
    assert "credential_unavailable" in told or "plan_unavailable" in told
    assert tenants.origin.asked == before, "nothing was sent upstream"


# ---- changes while everything runs


class Asking:
    """A program that asks without pause, and remembers when which credential arrived."""

    def __init__(self, program: Program) -> None:
        self.answers: list[tuple[float, int, str]] = []
        self.stopped = threading.Event()
        self._program = program

    def run(self) -> None:
        while not self.stopped.is_set():
            began_at = time.perf_counter()
            answered = self._program.ask()
            self.answers.append((began_at, answered.status, answered.body.decode()))

    def first(self, label: str) -> float:
        return next(at for at, _, seen in self.answers if seen == label)


def wait_until(condition: Callable[[], bool], within_seconds: float, what: str) -> None:
    deadline = time.perf_counter() + within_seconds
    while not condition():
        assert time.perf_counter() < deadline, what
        time.sleep(0.002)


def test_a_plan_reaches_a_running_sandbox_and_no_request_fails(tenants: Tenants) -> None:
    with tenants.program(1) as program, ThreadPoolExecutor(1) as pool:
        asking = Asking(program)
        running = pool.submit(asking.run)
        try:
            wait_until(lambda: len(asking.answers) > 20, PATIENCE_SECONDS, "no requests")
            posted_at = time.perf_counter()
            tenants.operator.put_plan(the_plan("con_next", revision=2))
            accepted_at = time.perf_counter()
            wait_until(
                lambda: any(label == "con_next" for _, _, label in asking.answers),
                PATIENCE_SECONDS,
                "the new plan did not arrive",
            )
            wait_until(lambda: asking.answers[-1][2] == "con_next", PATIENCE_SECONDS, "the old plan came back")
        finally:
            asking.stopped.set()
        running.result(10)
    assert {status for _, status, _ in asking.answers} == {200}
    labels = [label for _, _, label in asking.answers]
    assert labels == sorted(labels, key=["con_one", "con_next"].index), "the old plan decided after the new one"
    figure("from the POST of a plan to the first request it decided", asking.first("con_next") - posted_at)
    figure("from its answer", asking.first("con_next") - accepted_at)
    tenants.up.pid("sandboxd")
    assert tenants.ask(2) == "con_two"


async def held_stream(tunnel: TunnelClient) -> RawEnd:
    """Begin an answer that does not end, with the sandbox's credential, and read none of it."""
    end = await tunnel.inside(AUTHORITY, "intercepted; revision=1")
    end.send(BIG)
    assert (await end.head()).startswith(b"HTTP/1.1 200 ")
    return end


async def drained(end: RawEnd) -> None:
    """Read on until the stream has ended, one way or the other."""
    with contextlib.suppress(ConnectionError):
        while await end.some():
            pass


async def test_a_revoked_connection_ends_what_uses_it_and_nothing_else(
    tenants: Tenants, sandbox_id: str, in_time: InTime
) -> None:
    await asyncio.to_thread(tenants.operator.make_connection, ORGANIZATION, "con_brief", SECRETS["con_brief"])
    await asyncio.to_thread(tenants.operator.put_plan, the_plan("con_brief", sandbox_id=sandbox_id))
    token = (await asyncio.to_thread(tenants.operator.mint, sandbox_id))["token"]
    async with live_tunnel(tenants.tunnel_port, token) as tunnel:
        await tunnel.message("interception.set")
        end = await held_stream(tunnel)
        gone = asyncio.get_running_loop().create_task(drained(end))
        begun_at = time.perf_counter()
        await asyncio.to_thread(tenants.operator.set_status, "con_brief", "revoked")
        async with asyncio.timeout(PATIENCE_SECONDS):
            await gone
        seconds = time.perf_counter() - begun_at
        in_time("from the revocation of a connection to the end of its stream", seconds, REVOKED_WITHIN_SECONDS)
        assert tunnel.lost is None
        again = await tunnel.inside(AUTHORITY, "intercepted; revision=1")
        again.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        assert (await again.answer()).value("X-Sallyport-Error") == "credential_unavailable"
    assert await asyncio.to_thread(tenants.ask, 2) == "con_two"


@pytest.mark.parametrize("kind", ["jti", "sid", "sandbox"])
async def test_what_is_revoked_loses_its_tunnel_and_stays_out(
    tenants: Tenants, sandbox_id: str, kind: str, in_time: InTime
) -> None:
    await asyncio.to_thread(tenants.operator.put_plan, the_plan("con_next", sandbox_id=sandbox_id))
    tokens = await asyncio.to_thread(tenants.operator.mint, sandbox_id)
    revoked = claims_of(tokens["token"])["sub" if kind == "sandbox" else kind]
    async with live_tunnel(tenants.tunnel_port, tokens["token"]) as tunnel:
        await tunnel.message("interception.set")
        end = await held_stream(tunnel)
        gone = asyncio.get_running_loop().create_task(drained(end))
        begun_at = time.perf_counter()
        await asyncio.to_thread(tenants.operator.revoke, kind, revoked)
        await until(lambda: tunnel.lost is not None)
        seconds = time.perf_counter() - begun_at
        in_time(f"from the revocation of a {kind} to the end of its tunnel", seconds, REVOKED_WITHIN_SECONDS)
        assert tunnel.lost is not None
        assert tunnel.lost[0] == REVOKED
        await gone
    await refused_401(tenants, tokens["token"])
    if kind != "jti":  # of a token alone the lineage goes on
        await refused_401(tenants, tokens["renewalToken"])
    assert await asyncio.to_thread(tenants.ask, 2) == "con_two"


# ---- tokens that are none


def claims_of(token: str) -> dict[str, Any]:
    """Read what a token says."""
    payload = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))))


async def refused_401(tenants: Tenants, token: str) -> None:
    with pytest.raises(OpeningRefused) as refused:
        async with live_tunnel(tenants.tunnel_port, token):
            pass
    assert (refused.value.answer.status, refused.value.code) == (401, "authentication_required")


def foreign(tenants: Tenants, sandbox_id: str, *, known_kid: bool) -> str:
    """Sign what the control plane would sign, by a key of our own."""
    good = str(tenants.operator.mint(sandbox_id)["token"])
    header = json.loads(base64.urlsafe_b64decode(good.split(".")[0] + "=="))
    if not known_kid:
        header["kid"] = "a-kid-nobody-has-published"
    return signed_tokens.mint(claims_of(good), key=new_private_key(), header=header)


TOKENS: dict[str, Callable[[Tenants, str], str]] = {
    "none that can be read": lambda tenants, sandbox_id: "not-a-token",
    "for the proxy": lambda tenants, sandbox_id: str(tenants.operator.mint(sandbox_id, "proxy")["token"]),
    "for the control plane": lambda tenants, sandbox_id: Operator.service_token(tenants.up.data_dir, "cli"),
    "of another key under a known kid": lambda tenants, sandbox_id: foreign(tenants, sandbox_id, known_kid=True),
    "of an unknown key": lambda tenants, sandbox_id: foreign(tenants, sandbox_id, known_kid=False),
    "with other claims": lambda tenants, sandbox_id: altered(str(tenants.operator.mint(sandbox_id)["token"])),
}


def altered(token: str) -> str:
    """Say that it is the first sandbox's."""
    header, _, signature = token.split(".")
    claims = claims_of(token) | {"sub": SANDBOX}
    return f"{header}.{signed_tokens.encode(json.dumps(claims).encode())}.{signature}"


@pytest.mark.parametrize("name", TOKENS)
async def test_a_token_that_is_none_opens_no_tunnel(tenants: Tenants, sandbox_id: str, name: str) -> None:
    await refused_401(tenants, await asyncio.to_thread(TOKENS[name], tenants, sandbox_id))


async def test_a_token_that_runs_out_ends_its_tunnel_and_opens_no_other(tenants: Tenants, sandbox_id: str) -> None:
    token = (await asyncio.to_thread(tenants.operator.mint, sandbox_id, "tunnel", 5))["token"]
    async with live_tunnel(tenants.tunnel_port, token) as tunnel:
        assert await tunnel.ended(PATIENCE_SECONDS) == websocket.EXPIRED
    await refused_401(tenants, token)


async def test_another_sandbox_s_token_opens_that_sandbox_s_tunnel_alone(tenants: Tenants, sandbox_id: str) -> None:
    await asyncio.to_thread(tenants.operator.put_plan, the_plan("con_next", sandbox_id=sandbox_id))
    token = (await asyncio.to_thread(tenants.operator.mint, sandbox_id))["token"]
    async with live_tunnel(tenants.tunnel_port, token) as tunnel:
        await tunnel.message("interception.set")
        for claimed in ("sbx_two", SANDBOX):
            end = await tunnel.inside(AUTHORITY, "intercepted; revision=1")
            end.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Sandbox: {claimed}\r\n\r\n".encode())
            assert (await end.answer()).body == b"con_next"
    # The two whose names were used kept their tunnels.
    assert tenants.second.count("tunnel_ended") == 0
    assert tenants.ask(2) == "con_two"


# ---- frames that lie


def data(flags: int, stream_id: int, payload: bytes, length: int | None = None) -> bytes:
    return frame_header(DATA, flags, stream_id, len(payload) if length is None else length) + payload


def binary(payload: bytes) -> bytes:
    """Put up to a message's worth of frames into each message, masked as a client's are."""
    size = websocket.MAX_MESSAGE_BYTES
    pieces = [payload[at : at + size] for at in range(0, len(payload), size)]
    return b"".join(websocket.message(websocket.BINARY, piece, b"mask") for piece in pieces)


def text(payload: bytes) -> bytes:
    return websocket.message(websocket.TEXT, payload, b"mask")


LIES = {
    "another version of yamux": binary(b"\x01" + frame_header(PING, SYN, 0, 1)[1:]),
    "an unknown type": binary(frame_header(9, 0, 1, 0)),
    "an id of the gateway's": binary(data(SYN, 2, b"x")),
    "an id twice": binary(data(SYN, 1, b"x") + data(SYN, 1, b"x")),
    "data for the session": binary(data(0, 0, b"x")),
    "data for a stream nobody opened": binary(data(0, 7, b"x")),
    "data after the end": binary(data(SYN | FIN, 1, b"x") + data(0, 1, b"x")),
    "an acknowledgement of nothing": binary(data(SYN, 1, b"x") + frame_header(WINDOW_UPDATE, ACK, 1, 0)),
    "flags that mean nothing": binary(frame_header(WINDOW_UPDATE, 0x80, 1, 0)),
    "a frame of 4 GiB": binary(data(SYN, 1, b"x", 0xFFFFFFFF)),
    "a window beyond all numbers": binary(data(SYN, 1, b"x") + frame_header(WINDOW_UPDATE, 0, 1, 0xFFFFFFFF) * 2),
    "the answer to no ping": binary(frame_header(PING, ACK, 0, 12345)),
    "a go-away that means nothing": binary(frame_header(GO_AWAY, 0, 0, 99)),
    "a reset of a stream nobody opened": binary(frame_header(WINDOW_UPDATE, RST, 9, 0)),
    "an unmasked frame": b"\x82\x01x",
    "a reserved bit": b"\xc2\x81mask" + bytes([ord("x") ^ ord("m")]),
    "a message of 8 EiB": b"\x82\xff" + b"\x7f" + b"\xff" * 7 + b"mask",
    "text that is no UTF-8": text(b"\xff\xfe"),
    "text that is no JSON": text(b"{"),
    "JSON of no type": text(b'{"type": "plan.replace"}'),
    "JSON too deep": text(b"[" * 30_000),
}


class Heard:
    """What a gateway says to a liar; only how it ends matters."""

    code: int | None = None

    def binary_received(self, data: bytes) -> None: ...

    def text_received(self, data: bytes) -> None: ...

    def ping_received(self, payload: bytes) -> None: ...

    def close_received(self, code: int | None, reason: str) -> None:
        self.code = code


async def lie_and_listen(port: int, token: str, lie: bytes) -> int | None:
    """Open a tunnel by hand, send a lie, and return the code it is closed with."""
    end = await RawEnd.dial(port)
    try:
        request, _ = upgrade_request("gateway.test", token=token)
        end.send(request)
        assert (await end.head()).startswith(b"HTTP/1.1 101 ")
        end.send(lie)
        heard = Heard()
        reader = websocket.MessageReader(heard, is_client=True)
        while heard.code is None and (data := await end.some()):
            reader.feed(data)
        return heard.code
    finally:
        end.close()


async def test_frames_that_lie_end_their_own_tunnel_alone(tenants: Tenants, sandbox_id: str, in_time: InTime) -> None:
    token = (await asyncio.to_thread(tenants.operator.mint, sandbox_id))["token"]
    slowest = 0.0
    with tenants.program(2) as program:
        for name, lie in LIES.items():
            code = await lie_and_listen(tenants.tunnel_port, token, lie)
            begun_at = time.perf_counter()
            answered = await asyncio.to_thread(program.ask)
            slowest = max(slowest, time.perf_counter() - begun_at)
            assert (name, code) == (name, PROTOCOL)
            assert (name, answered.body) == (name, b"con_two")
    in_time("slowest request of a neighbour beside a lying tunnel", slowest, ANSWERED_WITHIN_SECONDS)
    assert tenants.second.count("tunnel_ended") == 0
    assert tenants.ask(1) in ("con_one", "con_next")


async def test_more_than_the_window_ends_the_tunnel(tenants: Tenants, sandbox_id: str) -> None:
    """An upload that its origin does not read: no more credit comes, and what is sent all the same is a lie."""
    await asyncio.to_thread(tenants.operator.put_plan, the_plan("con_next", sandbox_id=sandbox_id))
    token = (await asyncio.to_thread(tenants.operator.mint, sandbox_id))["token"]
    async with live_tunnel(tenants.tunnel_port, token) as honest:
        await honest.message("interception.set")  # the plan is here
    connect = f"CONNECT {AUTHORITY} HTTP/1.1\r\nHost: {AUTHORITY}\r\nSallyport-Stream: intercepted; revision=1\r\n\r\n"
    post = f"POST /upload HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {UNREAD_BYTES}\r\n\r\n"
    body = data(0, 1, bytes(MAX_DATA_BYTES_TAKEN)) * (UNREAD_BYTES // MAX_DATA_BYTES_TAKEN)
    lie = binary(data(SYN, 1, connect.encode()) + data(0, 1, post.encode()) + body)
    assert await lie_and_listen(tenants.tunnel_port, token, lie) == PROTOCOL
    assert await asyncio.to_thread(tenants.ask, 2) == "con_two"


async def test_a_deleted_sandbox_cannot_come_back(tenants: Tenants, sandbox_id: str) -> None:
    tokens = await asyncio.to_thread(tenants.operator.mint, sandbox_id)
    async with live_tunnel(tenants.tunnel_port, tokens["token"]) as tunnel:
        await asyncio.to_thread(tenants.operator.delete_sandbox, sandbox_id)
        assert await tunnel.ended() == REVOKED  # and so the gateway has heard of it
    for token in (tokens["token"], tokens["renewalToken"]):
        await refused_401(tenants, token)
