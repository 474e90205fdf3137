"""Our gateway and mitmproxy with our addon side by side, by the same plan, each in front of its own recording origins.

A case is bytes that a sandbox sends; what comes of it is what was answered and, byte for byte, what reached the origin.
"""

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from demo.certificates import write_origin_files
from tests.support.gateway_process import GatewayProcess, Setting, gateway_process
from tests.support.mitmproxy_process import mitmdump_gateway
from tests.support.origin import Answer as Scripted
from tests.support.origin import RecordingOrigin, recording_origin
from tests.support.strict_http import Malformed, read_request

AT_ONCE = 16
# An answer is whole after this long without a byte; where none comes at all, more patience: sixteen cases at once are
# seconds of work for mitmproxy where others work too, and an answer that was not waited for is a difference.
QUIET_SECONDS = 0.15
SILENT_SECONDS = 6.0
WHOLE_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Bytes sent inside TLS to a host, or to the proxy itself where `connect` is None. `answers` are expected at least.

    `%TOKEN%` and `%PORT%` in them stand for the proxy's.

    What reaches an origin is found by the server name where it has a host to itself, else by its X-Case field.
    """

    name: str
    data: bytes
    connect: str | None  # host:port
    connect_host: str | None = None  # what the CONNECT's Host says, where that is another
    own_host: bool = False
    answers: int = 1

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer: its status, the code of our own refusals, its coding, and whether mitmproxy's parser made it."""

    status: int
    code: str | None
    coding: str | None
    is_mitmproxys: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a case on one side: the answers, and every request at the origin as its head and its body."""

    answers: tuple[Answer, ...]
    sent: tuple[tuple[bytes, bytes], ...]
    received: bytes = field(default=b"", compare=False)  # what the answers were read from

    @property
    def is_refused_by_mitmproxy(self) -> bool:
        """Whether mitmproxy's own parser did not let it through to the addon."""
        return any(answer.is_mitmproxys for answer in self.answers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two."""

    port: int
    token: str
    trust: ssl.SSLContext
    origins: Sequence[RecordingOrigin]

    async def outcomes(self, cases: Iterable[Case]) -> dict[str, Outcome]:
        """Send every case, a few at a time."""
        waiting = list(cases)[::-1]
        answers: dict[str, bytes] = {}

        async def send_some() -> None:
            while waiting:
                case = waiting.pop()
                answers[case.name] = await self._send(case)

        every = list(waiting)
        async with asyncio.TaskGroup() as tasks:
            for number in range(AT_ONCE):
                tasks.create_task(send_some(), name=f"cases {number}")
        return {
            case.name: Outcome(
                answers=read_answers(answers[case.name]), sent=tuple(self._sent(case)), received=answers[case.name]
            )
            for case in every
        }

    async def _send(self, case: Case) -> bytes:
        async with asyncio.timeout(WHOLE_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                if case.connect is not None:
                    refusal = await self._connect(case, reader, writer)
                    if refusal:
                        return refusal
                data = case.data.replace(b"%TOKEN%", self.token.encode())
                writer.write(data.replace(b"%PORT%", str(self.port).encode()))
                return await _read(reader, case.answers)
            except (ConnectionError, ssl.SSLError):
                return b""
            finally:
                writer.transport.abort()

    async def _connect(self, case: Case, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        assert case.connect is not None
        named = case.connect_host or case.connect
        head = f"CONNECT {case.connect} HTTP/1.1\r\nHost: {named}\r\nProxy-Authorization: Bearer {self.token}\r\n\r\n"
        writer.write(head.encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 200 "):
            return answer
        await writer.start_tls(self.trust, server_hostname=case.connect.rpartition(":")[0].rstrip("."))
        return b""

    def _sent(self, case: Case) -> Iterable[tuple[bytes, bytes]]:
        for origin in self.origins:
            for link in origin.links:
                if case.own_host and link.sni == (case.connect or "").rpartition(":")[0]:
                    yield from _requests(bytes(link.received), lambda _: True)
                elif not case.own_host:
                    line = f"\r\nX-Case: {case.name}\r\n".encode()
                    yield from _requests(bytes(link.received), lambda head, line=line: line in head)  # type: ignore[misc]  # a default binds it


def read_answers(data: bytes) -> tuple[Answer, ...]:
    """Read what was answered: final answers only, by their heads."""
    found = []
    for head in re.findall(rb"HTTP/1\.1 [1-5]\d\d [^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n", data):
        status = int(head[9:12])
        if status >= 200:
            code = re.search(rb"\r\nX-Sallyport-Error: ([a-z_0-9]+)\r\n", head)
            coding = re.search(rb"(?i)\r\nContent-Encoding: ([^\r\n]*)\r\n", head)
            own = re.search(rb"(?i)\r\nServer: mitmproxy ", head)
            found.append(
                Answer(
                    status=status,
                    code=code[1].decode() if code else None,
                    coding=coding[1].decode() if coding else None,
                    is_mitmproxys=own is not None,
                )
            )
    return tuple(found)


def _requests(received: bytes, is_wanted: Callable[[bytes], bool]) -> Iterable[tuple[bytes, bytes]]:
    start = 0
    while start < len(received):
        try:
            request = read_request(received, start)
        except Malformed as fault:
            request, why = None, f"malformed: {fault}".encode()
        else:
            why = b"unfinished"
        if request is None:
            if is_wanted(received[start:]):
                yield received[start:], why
            return
        head = received[start : request.head.end]
        if is_wanted(head):
            yield head, request.body
        start = request.end


async def _read(reader: asyncio.StreamReader, expected: int) -> bytes:
    data, silent = b"", 0.0
    while True:
        try:
            async with asyncio.timeout(QUIET_SECONDS):
                piece = await reader.read(65536)
        except TimeoutError:
            silent += QUIET_SECONDS
            if len(read_answers(data)) >= expected or silent >= SILENT_SECONDS:
                return data
            continue
        if not piece:
            return data
        data, silent = data + piece, 0.0


@contextlib.asynccontextmanager
async def two_gateways(
    folder: Path,
    *,
    plan: bytes,
    credentials: Mapping[str, str],
    hosts: Sequence[str],
    names: Sequence[str],
    scripts: Mapping[str, Scripted],
) -> AsyncIterator[tuple[Side, Side]]:
    """Run both until the block ends: (our gateway, mitmproxy).

    `hosts` are dialled, `names` are on the certificate, `scripts` are what origins answer by path.
    """
    files = write_origin_files(folder, list(names))
    async with contextlib.AsyncExitStack() as stack:
        ours, theirs = [
            [
                await stack.enter_async_context(recording_origin(files.server_context())),
                await stack.enter_async_context(recording_origin()),
            ]
            for _ in range(2)
        ]
        for origin in (*ours, *theirs):
            origin.answers.update(scripts)
        setting = Setting(
            plan=plan,
            credentials=credentials,
            in_files=True,
            connect_to=_connect_to(hosts, ours),
            ca_file=files.ca_file,
        )
        gateway = await _enter(stack, gateway_process(folder / "gateway", setting))
        config = _second_config(gateway, _connect_to(hosts, theirs))
        mitmdump = await _enter(stack, mitmdump_gateway(folder / "mitmproxy", config, {}))
        yield (
            Side(port=gateway.proxy_port, token=gateway.token, trust=_trust(gateway.ca_file), origins=ours),
            Side(port=mitmdump.port, token=gateway.token, trust=_trust(mitmdump.ca_file), origins=theirs),
        )


async def _enter[T](stack: contextlib.AsyncExitStack, block: contextlib.AbstractContextManager[T]) -> T:
    """Enter a blocking block on a thread; the origins are served meanwhile."""

    async def leave() -> None:
        await asyncio.to_thread(block.__exit__, None, None, None)

    value = await asyncio.to_thread(block.__enter__)
    stack.push_async_callback(leave)
    return value


def _connect_to(hosts: Sequence[str], origins: Sequence[RecordingOrigin]) -> dict[str, str]:
    tls, plain = origins
    both = {f"{host}:443": f"127.0.0.1:{tls.port}" for host in hosts}
    return both | {f"{host}:80": f"127.0.0.1:{plain.port}" for host in hosts}


def _second_config(gateway: GatewayProcess, connect_to: Mapping[str, str]) -> Path:
    """Write the gateway's settings again, with other origins."""
    document = yaml.safe_load((gateway.folder / "gateway.yaml").read_text())
    document["upstream"]["connect_to"] = dict(connect_to)
    path = gateway.folder / "mitmproxy.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def _trust(ca_file: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    context.set_alpn_protocols(["http/1.1"])
    # mitmproxy's own authority lacks what the strict profile of Python 3.13 asks for.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
