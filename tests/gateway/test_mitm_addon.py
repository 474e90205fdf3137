"""The addon in a real mitmdump: what is its own to get right beside the decisions (tests/flow/test_mitm_oracle.py)."""

import asyncio
import json
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from gzip import compress
from pathlib import Path

import yaml

from demo.certificates import write_origin_files
from tests.support.gateway_plans import plan, route
from tests.support.gateway_process import ROOT, Setting, gateway_process
from tests.support.mitmproxy_process import BIN, MitmproxyProcess, mitmdump_gateway, mitmproxy_process, need_mitmproxy
from tests.support.origin import Answer, RecordingOrigin, Then, recording_origin
from tests.support.raw_end import RawEnd

SECRET = "addon-canary-41c0ffee+/="
API, OPEN = "api.addon.test", "open.addon.test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """mitmdump with the addon, in front of an origin by TLS."""

    mitmdump: MitmproxyProcess
    origin: RecordingOrigin
    token: str
    origin_ca: Path

    async def connect(self, authority: str) -> tuple[RawEnd, bytes]:
        client = await RawEnd.dial(self.mitmdump.port)
        head = f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nProxy-Authorization: Bearer {self.token}\r\n\r\n"
        client.send(head.encode())
        return client, await client.head()

    async def inside(self, host: str, *, server_name: str = "", ca_file: Path | None = None) -> RawEnd:
        """Speak TLS inside a CONNECT, trusting mitmproxy's CA or another."""
        client, answer = await self.connect(f"{host}:443")
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        trust = ssl.create_default_context(cafile=ca_file or self.mitmdump.ca_file)
        trust.verify_flags &= ~ssl.VERIFY_X509_STRICT
        trust.set_alpn_protocols(["http/1.1"])
        await client.start_tls(trust, server_name or host)
        return client


@asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[Scene]:
    """Run mitmdump by the settings of a gateway; the gateway itself only writes them and leaves."""
    need_mitmproxy()
    files = write_origin_files(folder, ["*.addon.test"])
    async with AsyncExitStack() as stack:
        origin = await stack.enter_async_context(recording_origin(files.server_context()))
        setting = Setting(
            plan=plan([route("r", [API], "con_r")], default="passthrough"),
            credentials={"con_r": SECRET},
            in_files=True,
            connect_to={f"{host}:443": f"127.0.0.1:{origin.port}" for host in (API, OPEN)},
            ca_file=files.ca_file,
            further={"scrub": {"unscannable": "refuse"}},
        )

        def write() -> str:
            with gateway_process(folder / "gateway", setting) as gateway:
                return gateway.token

        token = await asyncio.to_thread(write)
        block = mitmdump_gateway(folder / "mitmproxy", folder / "gateway/gateway.yaml", {})
        mitmdump = await asyncio.to_thread(block.__enter__)
        try:
            yield Scene(mitmdump=mitmdump, origin=origin, token=token, origin_ca=files.ca_file)
        finally:
            await asyncio.to_thread(block.__exit__, None, None, None)
        assert "Addon error" not in mitmdump.output
        assert "Traceback" not in mitmdump.output


def request(host: str = API, *lines: str, method: str = "GET", target: str = "/v1") -> bytes:
    return "\r\n".join((f"{method} {target} HTTP/1.1", f"Host: {host}", *lines, "", "")).encode()


async def test_what_mitmproxy_carries(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        await _an_echo_is_scrubbed_as_it_streams(here)
        await _an_echo_in_gzip_is_scrubbed(here)
        await _what_is_not_the_gzip_it_says_is_cut(here)
        await _what_cannot_be_read_is_refused(here)
        await _it_does_not_dial_itself(here)
        await _a_link_is_used_again(here)
        await _a_host_that_passes_through_keeps_its_own_tls(here)
        await _a_handshake_for_another_host_gets_nothing(here)
        await _a_large_body_goes_on_before_it_is_whole(here)
        await _a_websocket_is_scrubbed(here)
        await _raw_bytes_to_a_managed_host_go_nowhere(here)


async def _an_echo_is_scrubbed_as_it_streams(here: Scene) -> None:
    half = len(SECRET) // 2
    gate = asyncio.Event()
    head = f"HTTP/1.1 200 OK\r\nX-Echo: {SECRET}\r\nAlt-Svc: h3\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    first, second = b"a" * 5 + SECRET[:half].encode(), SECRET[half:].encode() + b"z" * 5
    chunks = [b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (first, second)]
    here.origin.answers["/echo"] = Answer(parts=(head + chunks[0], gate, chunks[1] + b"0\r\n\r\n"))
    client = await here.inside(API)
    client.send(request(target="/echo"))
    assert b"Alt-Svc" not in await client.head()
    assert b"aaaaa" in await client.some()
    gate.set()
    rest = await client.until(b"0\r\n\r\n")
    assert rest.endswith(b"zzzzz\r\n0\r\n\r\n")
    assert SECRET[half:].encode() not in rest
    client.close()


def coded(name: str, body: bytes, *further: str) -> Answer:
    fields = "".join(f"{line}\r\n" for line in (f"Content-Encoding: {name}", f"Content-Length: {len(body)}", *further))
    return Answer(parts=(f"HTTP/1.1 200 OK\r\n{fields}\r\n".encode() + body,))


async def _an_echo_in_gzip_is_scrubbed(here: Scene) -> None:
    here.origin.answers["/gzip"] = coded("gzip", compress(b"<" + SECRET.encode() + b">"), 'ETag: "x"')
    client = await here.inside(API)
    for _ in range(2):
        client.send(request(target="/gzip"))
        answer = await client.answer()
        assert (answer.status, len(answer.body), answer.body[:1], answer.body[-1:]) == (
            200,
            len(SECRET) + 2,
            b"<",
            b">",
        )
        assert SECRET.encode() not in answer.body
        assert not answer.values("Content-Encoding") + answer.values("ETag")
    client.close()


async def _what_is_not_the_gzip_it_says_is_cut(here: Scene) -> None:
    whole = compress(b"x" * 100)
    for target, body in (("/none", b"no gzip"), ("/cut", whole[:-4])):
        here.origin.answers[target] = coded("gzip", body)
        client = await here.inside(API)
        client.send(request(target=target))
        assert not (await client.gone()).endswith(b"0\r\n\r\n")
        client.close()


async def _what_cannot_be_read_is_refused(here: Scene) -> None:
    here.origin.answers["/br"] = coded("br", b"whatever it is")
    client = await here.inside(API)
    client.send(request(target="/br"))
    answer = await client.answer()
    assert (answer.status, answer.values("X-Sallyport-Error")) == (502, ["upstream_protocol_error"])
    assert json.loads(answer.body)["egressRuleId"] == "r"
    client.send(request())
    assert (await client.answer()).status == 200
    client.close()


async def _it_does_not_dial_itself(here: Scene) -> None:
    client = await RawEnd.dial(here.mitmdump.port)
    own = f"127.0.0.1:{here.mitmdump.port}"
    client.send(
        f"GET http://{own}/ HTTP/1.1\r\nHost: {own}\r\nProxy-Authorization: Bearer {here.token}\r\n\r\n".encode()
    )
    answer = await client.answer()
    assert (answer.status, answer.values("X-Sallyport-Error")) == (403, ["address_refused"]), answer
    client.close()


async def _a_link_is_used_again(here: Scene) -> None:
    before = len(here.origin.links)
    client = await here.inside(API)
    for _ in range(3):
        client.send(request())
        assert (await client.answer()).status == 200
    assert len(here.origin.links) == before + 1
    assert here.origin.links[-1].sni == API
    client.close()


async def _a_host_that_passes_through_keeps_its_own_tls(here: Scene) -> None:
    client = await here.inside(OPEN, ca_file=here.origin_ca)
    client.send(request(OPEN))
    assert (await client.answer()).status == 200
    assert b"Authorization" not in bytes(here.origin.links[-1].received)
    client.close()


async def _a_handshake_for_another_host_gets_nothing(here: Scene) -> None:
    before = len(here.origin.links)
    for host, other in ((API, OPEN), (OPEN, API)):
        client = await here.inside(host, server_name=other)
        client.send(request(host))
        answer = await client.answer()
        assert (answer.status, answer.values("X-Sallyport-Error")) == (421, ["authority_mismatch"]), answer
        client.close()
    assert len(here.origin.links) == before


async def _a_large_body_goes_on_before_it_is_whole(here: Scene) -> None:
    size = 8 * 1024 * 1024
    client = await here.inside(API)
    client.send(request(API, f"Content-Length: {size}", method="POST", target="/large"))
    client.send(b"x" * (size - 1))
    await here.origin.wait_for_bytes(b"POST /large HTTP/1.1\r\n")
    async with asyncio.timeout(20):
        while len(here.origin.links[-1].received) < size // 2:  # noqa: ASYNC110  there is no event to wait for
            await asyncio.sleep(0.01)
    client.send(b"x")
    assert (await client.answer()).status == 200
    client.close()


async def _a_websocket_is_scrubbed(here: Scene) -> None:
    accept = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"  # RFC 6455 section 1.3
    head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + accept
    message = b"you sent " + SECRET.encode()
    here.origin.answers["/socket"] = Answer(parts=(head, bytes([0x81, len(message)]) + message), then=Then.HANG)
    client = await here.inside(API)
    lines = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    client.send(request(API, *lines, key, "Sec-WebSocket-Extensions: permessage-deflate", target="/socket"))
    assert b" 101 " in await client.head()
    received = await client.exactly(2 + len(message))
    assert received[2:11] == b"you sent "
    assert SECRET.encode() not in received
    assert b"permessage-deflate" not in bytes(here.origin.links[-1].received)
    client.close()


async def _raw_bytes_to_a_managed_host_go_nowhere(here: Scene) -> None:
    before = len(here.origin.links)
    client, answer = await here.connect(f"{API}:443")
    assert answer.startswith(b"HTTP/1.1 200 ")
    client.send(b"SSH-2.0-anything\r\n\r\n")
    await client.gone()
    client.close()
    assert len(here.origin.links) == before


def test_settings_that_cannot_be_used_end_mitmdump(tmp_path: Path) -> None:
    need_mitmproxy()
    config = tmp_path / "gateway.yaml"
    config.write_text(yaml.safe_dump({"plans": ["missing.json"]}))
    options = ("-s", str(ROOT / "gateway/mitm_addon.py"), "--set", f"sallyport_config={config}", "--listen-port", "0")
    with mitmproxy_process(tmp_path / "mitmproxy", "mitmdump", *options) as mitmdump:
        mitmdump.process.wait(30)
        mitmdump._reader.join(10)
        assert "sallyport_config: /tokens" in mitmdump.output


def test_its_path_can_be_asked_for_without_mitmproxy() -> None:
    code = "import gateway.mitm_addon as m; print(m.__file__)"
    for python in (ROOT / ".venv/bin/python", BIN / "python"):
        if python.exists():
            said = subprocess.run(
                [str(python), "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
            ).stdout
            assert said.strip() == str(ROOT / "gateway/mitm_addon.py")
