"""Hostile inputs against a running gateway, by the explicit listener and by a tunnel: the stage of their flow suites.

A suite is a list of cases, each played once by each way with a host of its own, a few at a time; so what reached an
origin and what was recorded can be mistaken for no other's. `Played.check` then asks everything of one case: the
answer, the bytes at the origins, the audit records. `Played.check_afterwards` asks of all of them that a plain request
succeeded behind each (T6).
"""

import asyncio
import functools
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from demo.certificates import write_origin_files
from sallyport.problem import Code, proxy_status
from tests.support.afterwards import Afterwards, ask_afterwards, check_time
from tests.support.egress_ways import SANDBOXD, WAYS, Way, both_ways, connect_head, established, through_sandboxd
from tests.support.figures import InTime, RecordProperty
from tests.support.gateway_plans import BEARER, plan, route
from tests.support.gateway_process import GatewayProcess, Setting, gateway_process
from tests.support.origin import Answer, RecordingOrigin, recording_origin
from tests.support.plan_documents import Document
from tests.support.raw_end import RawAnswer, RawEnd

SECRET = "egress-credential-5d20b1"
CONNECTION = "con_egress"
OTHER_SECRET = "egress-second-9e7713"
OTHER_CONNECTION = "con_second"
BEARER_LINE = b"Authorization: Bearer " + SECRET.encode() + b"\r\n"
IDENTITY_LINE = b"Accept-Encoding: identity\r\n"
# What the gateway adds to the head of an injected request without a body, to its end.
ADDED_LINES = BEARER_LINE + IDENTITY_LINE + b"\r\n"
# The route of a host that says nothing else: in the clear too, so that one case can be put both ways.
ROUTE: Document = {"match": {"hosts": ["{host}"], "pathPrefixes": ["/v1"]}, "allowCleartext": True}

# The rules of a host that may be asked for whatever it is.
ALLOWED: Sequence[Document] = ({"action": "allow", "hosts": ["{host}"]},)

# Further ports of every host; their origin speaks no TLS. The second is one that a rule lets everybody use.
OTHER_PORTS = (8443, 9443)
OTHER_PORT, EVERYBODYS_PORT = OTHER_PORTS
# Of each host too; nobody listens there.
CLOSED_PORT = 1
AFTERWARDS_HOST = "afterwards.test"
AT_ONCE = 8
# How the tests of a suite are counted.
HOSTILE = pytest.mark.counted("hostile requests", "answered otherwise than they must")
_CODES = {code.wire: code for code in Code}


@dataclass(frozen=True, slots=True, kw_only=True)
class Origins:
    """Where everything goes that leaves."""

    plain: RecordingOrigin
    tls: RecordingOrigin


@dataclass(slots=True, kw_only=True, eq=False)
class Scene:
    """One case by one way, while it is played and after: who speaks to whom, and what came of it."""

    host: str
    address: str  # of loopback, and of this scene alone; none where no rule can let it be reached
    further: Sequence[str] = ()
    way: Way = field(init=False)
    origins: Origins = field(init=False)
    answers: list[RawAnswer] = field(default_factory=list)
    request_ids: set[str] = field(default_factory=set)
    has_closed: bool = False  # after the last answer, or without any
    must_arrive: Sequence[bytes] | None = None  # set by a play whose case cannot know it beforehand
    fault: Exception | None = None  # the play did not go as its case says
    afterwards: Afterwards[RawAnswer] = field(init=False)
    received: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)  # of each whole request at the origins
    audited: list[dict[str, Any]] = field(default_factory=list)

    def fill(self, text: bytes) -> bytes:
        """Put this scene's host where `{host}` stands, in capitals for `{HOST}`, and its address for `{address}`."""
        host = self.host.encode()
        filled = text.replace(b"{host}", host).replace(b"{HOST}", host.upper())
        return filled.replace(b"{address}", self.address.encode())

    @property
    def hosts(self) -> list[str]:
        """Everything that is this scene's alone."""
        return [*filter(None, (self.host, self.address)), *(self.fill(name.encode()).decode() for name in self.further)]

    async def plain(self, request: bytes) -> RawEnd:
        """Send a request in absolute form on a new stream."""
        return await self.way.plain(self.fill(request))

    async def inside(self, request: bytes, authority: bytes = b"{host}:443") -> RawEnd:
        """Send a request where TLS to the host has ended."""
        end = await self.way.inside(self.fill(authority).decode(), self.host)
        end.send(self.fill(request))
        return end

    async def connect(self, request: bytes, declared: str = "intercepted; revision=1") -> RawEnd:
        """Send a CONNECT."""
        return await self.way.connect(self.fill(request), declared)

    async def opaque(self, authority: bytes) -> RawEnd:
        """CONNECT to what passes through, and read its 200."""
        end = await self.connect(connect_head(authority.decode()), "passthrough; revision=1")
        await established(end)
        return end

    async def read(self, end: RawEnd, method: str = "GET") -> RawAnswer:
        """Read one answer and keep it."""
        answer = await end.answer(method)
        self.answers.append(answer)
        if answer.body and answer.values("X-Sallyport-Error"):
            self.request_ids.add(json.loads(answer.body)["requestId"])
        return answer

    async def read_last(self, end: RawEnd, method: str = "GET") -> RawAnswer:
        """Read one answer and the end of the stream behind it."""
        answer = await self.read(end, method)
        assert await self.cut(end) == b"", "bytes behind the last answer"
        return answer

    async def cut(self, end: RawEnd) -> bytes:
        """Wait for the end of a stream, in order or not; returns what came before it."""
        left = await end.gone()
        self.has_closed = True
        return left


type Play = Callable[[Scene], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One hostile input, or a harmless one that must survive, and everything that may come of it.

    status and code are those of the last answer; a status of None is no answer. sent are the bytes of each link that
    the origins see of it; None leaves them to the test. audited are status and code of each record, in any order; None
    is one record of the answer. routes replace the one route that its host has; rules speak of its host too; further
    are hosts of its own beside it. In all of them the scene's host is filled in.
    """

    name: str
    play: Play
    status: int | None = None
    code: str = ""
    sent: Sequence[bytes] | None = ()
    audited: Sequence[tuple[int | None, str | None]] | None = None
    closes: bool = False
    routes: Sequence[Mapping[str, object]] = (ROUTE,)
    rules: Sequence[Mapping[str, object]] = ()
    further: Sequence[str] = ()
    ways: Sequence[str] = (*WAYS, SANDBOXD)
    prefix: str = ""  # of the host's name

    def __str__(self) -> str:
        return self.name


def each_way(cases: Sequence[Case], ways: Sequence[str] = WAYS) -> list[tuple[Case, str]]:
    """Return every case with every way that it has a meaning on."""
    return [(case, way) for case in cases for way in ways if way in case.ways]


def of(*tables: Sequence[Case]) -> pytest.MarkDecorator:
    """Test each of these by each way, and count it."""
    each = each_way([case for table in tables for case in table])
    return pytest.mark.parametrize(("case", "way"), [pytest.param(*one, marks=HOSTILE) for one in each], ids=str)


def asks_inside(request: bytes, *, authority: bytes = b"{host}:443", method: str = "GET", closes: bool = False) -> Play:
    """Send bytes where TLS has ended, and read one answer."""

    async def play(scene: Scene) -> None:
        end = await scene.inside(request, authority)
        await (scene.read_last if closes else scene.read)(end, method)

    return play


def asks_plainly(request: bytes, *, method: str = "GET", closes: bool = False) -> Play:
    """Send bytes on a new stream, and read one answer."""

    async def play(scene: Scene) -> None:
        end = await scene.plain(request)
        await (scene.read_last if closes else scene.read)(end, method)

    return play


def asks_to_connect(request: bytes, declared: str = "intercepted; revision=1") -> Play:
    """Send a CONNECT and what may follow it, and read the answer that refuses it and ends the stream."""

    async def play(scene: Scene) -> None:
        await scene.read_last(await scene.connect(request, declared))

    return play


# -- What came of it


@dataclass(slots=True, kw_only=True)
class Played:
    """A suite after its gateway has ended; denied and ended are metrics, by code and by outcome."""

    scenes: Mapping[tuple[str, str], Scene]
    audit: Sequence[dict[str, Any]]
    records_of_none: Sequence[dict[str, Any]]
    links_of_none: Sequence[bytes]
    denied: Mapping[str, int]
    ended: Mapping[str, int]
    log: bytes

    def check(self, case: Case, way: str) -> Scene:
        """Check everything that holds for every case; returns the scene for what holds for this one alone."""
        scene = self.scenes[case.name, way]
        if scene.fault is not None:
            raise scene.fault
        if case.status is None:
            assert scene.answers == []
        else:
            _check_answer(case, scene.answers[-1])
        assert scene.has_closed is case.closes
        if scene.must_arrive is not None:
            assert scene.received == scene.must_arrive
        elif case.sent is not None:
            assert scene.received == [scene.fill(each) for each in case.sent]
        expected = Counter([(case.status, case.code or None)] if case.audited is None else case.audited)
        seen = Counter((entry.get("status"), entry.get("code")) for entry in scene.audited)
        if way == SANDBOXD:
            # What sandboxd refuses by itself never reaches a gateway.
            expected = Counter({entry: count for entry, count in expected.items() if not entry[1] or entry in seen})
        assert seen == expected
        return scene

    def check_afterwards(self, record_property: RecordProperty, in_time: InTime) -> None:
        """Check that a plain request succeeded after each (T6), in its time where time is looked at."""
        record_property("tried", ["plain requests after a vector", len(self.scenes)])
        asked = {name: scene.afterwards for name, scene in self.scenes.items()}
        assert {
            name: each.fault or each.answer
            for name, each in asked.items()
            if each.answer is None or each.answer.status != 200
        } == {}
        check_time(asked.values(), record_property, in_time)

    def check_the_whole(self) -> None:
        """Nothing happened that belongs to no case, nothing tells a secret, and the metric counts what audit says."""
        assert self.records_of_none == []
        assert self.links_of_none == []
        assert self.denied == Counter(entry["code"] for entry in self.audit if "code" in entry)
        assert self.ended == Counter(entry["outcome"] for entry in self.audit)
        for secret in (SECRET, OTHER_SECRET):
            assert secret not in json.dumps(self.audit)
            assert secret.encode() not in self.log


def _check_answer(case: Case, answer: RawAnswer) -> None:
    assert answer.status == case.status, answer
    assert answer.values("X-Sallyport-Error") == ([case.code] if case.code else [])
    for secret in (SECRET, OTHER_SECRET):
        assert secret.encode() not in answer.head + answer.body
    if not case.code:
        assert answer.values("Proxy-Status") == []
        return
    code = Code.PROXY_AUTHENTICATION_REQUIRED if case.status == 407 else _CODES[case.code]
    assert answer.value("Proxy-Status") == proxy_status(code)
    assert answer.value("Content-Type") == "application/problem+json"
    assert answer.value("Cache-Control") == "no-store"
    if not answer.body:
        return  # the answer to a HEAD
    document = json.loads(answer.body)
    assert (document["code"], document["status"]) == (case.code, case.status)
    assert document["retryable"] is code.retryable
    assert document["title"] == code.title
    assert document["detail"]
    assert document["requestId"]


# -- Playing


def play_all(
    folder: Path,
    cases: Sequence[Case],
    *,
    answers: Mapping[str, Answer] | None = None,
    further: Mapping[str, Mapping[str, object]] | None = None,
    is_certified: Callable[[str], bool] = lambda host: True,
    ways: Sequence[str] = WAYS,
) -> Played:
    """Play every case by each of its ways on one gateway.

    `answers` are the origins' scripts, `further` sections of the settings; the TLS origin has a certificate for those
    hosts that are certified.
    """
    assert [name for name, count in Counter(case.name for case in cases).items() if count > 1] == []
    scenes = {
        (case.name, way): Scene(
            host=f"{case.prefix}c{number}-{way}.test",
            address=f"127.{ways.index(way) + 1}.{number // 250}.{number % 250 + 1}" if case.rules else "",
            further=case.further,
        )
        for number, case in enumerate(cases)
        for _, way in each_way([case], ways)
    }
    certified = [scene.host for scene in scenes.values() if is_certified(scene.host)]
    opened = through_sandboxd if SANDBOXD in ways else both_ways
    return asyncio.run(
        _play_all(folder, each_way(cases, ways), scenes, answers or {}, further or {}, certified, opened)
    )


async def _play_all(
    folder: Path,
    cases: Sequence[tuple[Case, str]],
    scenes: Mapping[tuple[str, str], Scene],
    answers: Mapping[str, Answer],
    further: Mapping[str, Mapping[str, object]],
    certified: Sequence[str],
    opened: Callable[[GatewayProcess], AbstractAsyncContextManager[Mapping[str, Way]]],
) -> Played:
    files = write_origin_files(folder, [*certified, AFTERWARDS_HOST])
    async with recording_origin() as plain, recording_origin(files.server_context()) as tls:
        origins = Origins(plain=plain, tls=tls)
        plain.answers.update(answers)
        tls.answers.update(answers)
        setting = Setting(
            plan=_plan(cases, scenes),
            credentials={CONNECTION: SECRET, OTHER_CONNECTION: OTHER_SECRET},
            connect_to=_connect_to(cases, scenes, origins),
            ca_file=files.ca_file,
            further=further,
        )
        with gateway_process(folder / "gateway", setting) as gateway:
            async with opened(gateway) as ways:
                for (_, way), scene in scenes.items():
                    scene.way, scene.origins = ways[way], origins
                await _play_some([(case.play, scenes[case.name, way]) for case, way in cases])
            metrics = await asyncio.to_thread(gateway.metrics)
            # The end of the gateway is the moment after which the audit file and the origins hold everything.
            assert await asyncio.to_thread(gateway.terminate) == 0
            audit = gateway.audit(lambda _: True)
    records, links = _give_out(scenes.values(), audit, origins)
    return Played(
        scenes=scenes,
        audit=audit,
        records_of_none=records,
        links_of_none=links,
        denied=_counted(metrics, "sallyport_denied_total", "code"),
        ended=_counted(metrics, "sallyport_requests_total", "outcome"),
        log=gateway.log,
    )


def _give_out(
    scenes: Collection[Scene], audit: Sequence[dict[str, Any]], origins: Origins
) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Give every record, link and request to its scene; returns the records and links that are nobody's."""
    by_host = {host: scene for scene in scenes for host in scene.hosts}
    by_request = {request_id: scene for scene in scenes for request_id in scene.request_ids}
    records, links = [], []
    for entry in audit:
        scene = by_host.get(entry.get("host", "")) or by_request.get(entry["requestId"])
        if scene is not None:
            scene.audited.append(entry)
        elif entry.get("host") != AFTERWARDS_HOST:
            records.append(entry)
    for link in (*origins.plain.links, *origins.tls.links):
        received = bytes(link.received)
        named = {word.decode() for word in re.findall(rb"[\w.-]+", received)}
        owners = {by_host[host] for host in named & by_host.keys()}
        for scene in owners:
            scene.received.append(received)
            scene.bodies += [request.body for request in link.requests]
        if received and not owners and AFTERWARDS_HOST not in named:
            links.append(received)
    return records, links


async def _play_some(plays: Iterable[tuple[Play, Scene]]) -> None:
    waiting = list(reversed(list(plays)))

    async def play_next() -> None:
        while waiting:
            play, scene = waiting.pop()
            try:
                await play(scene)
            except Exception as fault:
                scene.fault = fault
            scene.afterwards = await ask_afterwards(
                functools.partial(_ask_plainly, scene.way), scene.way.gateway.process.pid
            )

    async with asyncio.TaskGroup() as tasks:
        for number in range(AT_ONCE):
            tasks.create_task(play_next(), name=f"cases {number}")


async def _ask_plainly(way: Way) -> RawAnswer:
    """Send a plain request on a stream of its own (T6)."""
    url = f"http://{AFTERWARDS_HOST}/"
    asked = f"GET {url} HTTP/1.1\r\nHost: {AFTERWARDS_HOST}\r\nConnection: close\r\n\r\n"
    end = await way.plain(asked.encode())
    answer = await end.answer()
    end.close()
    return answer


def _counted(metrics: str, name: str, label: str) -> Mapping[str, int]:
    """Add the samples of a metric up by one of its labels."""
    counted: Counter[str] = Counter()
    for value, count in re.findall(rf'^{name}{{.*?{label}="(\w+)".*}} (\S+)$', metrics, re.MULTILINE):
        counted[value] += int(float(count))
    return +counted


def _connect_to(
    cases: Sequence[tuple[Case, str]], scenes: Mapping[tuple[str, str], Scene], origins: Origins
) -> dict[str, str]:
    found = {f"{AFTERWARDS_HOST}:80": origins.plain.port}
    for case, way in cases:
        for host in scenes[case.name, way].hosts:
            found |= {f"{host}:80": origins.plain.port, f"{host}:443": origins.tls.port}
            if case.rules:
                found |= {f"{host}:{port}": origins.plain.port for port in OTHER_PORTS}
                found[f"{host}:{CLOSED_PORT}"] = CLOSED_PORT
    return {here: f"127.0.0.1:{port}" for here, port in found.items()}


def _plan(cases: Sequence[tuple[Case, str]], scenes: Mapping[tuple[str, str], Scene]) -> bytes:
    routes: list[Document] = []
    rules: list[Document] = [{"ruleId": "afterwards", "action": "allow", "hosts": [AFTERWARDS_HOST]}]
    for case, way in cases:
        scene = scenes[case.name, way]
        for document in case.routes:
            routes.append(_route(f"route-{len(routes)}", _filled(document, scene)))
        for document in case.rules:
            rules.append({"ruleId": f"rule-{len(rules)}", **_filled(document, scene)})
    return plan(routes, rules)


def _route(rule_id: str, members: Document) -> Document:
    connection_id = str(members.pop("connectionId", CONNECTION))
    return route(rule_id, [], connection_id, BEARER, **members)


def _filled(document: Mapping[str, object], scene: Scene) -> Document:
    filled: Document = json.loads(scene.fill(json.dumps(document).encode()))
    return filled
