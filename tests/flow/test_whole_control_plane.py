"""A control plane that is away, loses answers, or answers slowly, wrongly, hugely or not at all: what sandboxes notice.

The parts are processes of their own; between the gateway and its control plane stands a relay, or a control plane
that misbehaves as it is told.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo.certificates import OriginFiles, write_origin_files
from sallyport.plan.codec import seal
from tests.support import signed_tokens
from tests.support.background import in_background
from tests.support.fake_control import Answer, FakeControl, answer, break_off, fake_control, hang, hang_up, refusal
from tests.support.figures import InTime, figure
from tests.support.gateway_plans import ORGANIZATION, SANDBOX, plan, route
from tests.support.gateway_process import GatewayProcess, Setting, linked_gateway
from tests.support.load_origin import LoadOrigin, load_origin
from tests.support.operator import Operator
from tests.support.plan_documents import plan_document
from tests.support.relay import ControlRelay, relaying
from tests.support.sandbox_program import ConnectRefused, ask_once
from tests.support.sandboxd_process import SandboxdProcess, sandboxd_process
from tests.support.up_process import UpProcess, up_process

# Four processes start one after the other, on a machine that may be busy with other tests.
pytestmark = pytest.mark.timeout(120)


HOST = "api.load.test"
LATER_HOST = "later.load.test"
SECRETS = {"con_load": "credential-that-is-cached", "con_later": "credential-nobody-has-asked-for"}
# What a request waits for its plan or its credential, on the gateway and in sandboxd.
WAIT = "1s"
# Longer than a gateway pauses at most before it asks once more (control_client.backoff).
BACK_SECONDS = 45.0
RESOLVE = "/internal/integration-credentials/resolve"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A gateway behind a relay to its control plane."""

    up: UpProcess
    operator: Operator
    relay: ControlRelay
    gateway: GatewayProcess
    origin: LoadOrigin
    folder: Path

    @contextmanager
    def sandbox(
        self, name: str, tokens: dict[str, object] | None = None, *, is_managed: bool = True
    ) -> Iterator[SandboxdProcess]:
        """Run a sandboxd; is_managed waits for its managed set."""
        with sandboxd_process(
            self.folder / name,
            f"ws://127.0.0.1:{self.gateway.tunnel_port}",
            tokens or self.operator.mint(name),
            settings={"SALLYPORT_TIMEOUTS_HOLD": WAIT},
            is_managed=is_managed,
        ) as sandboxd:
            yield sandboxd

    def new_sandbox(self, name: str) -> None:
        self.operator.make_sandbox(name, ORGANIZATION)
        self.operator.put_plan(the_plan(name))


def the_plan(sandbox_id: str, revision: int = 1) -> bytes:
    routes = [route("load", [HOST], "con_load"), route("later", [LATER_HOST], "con_later")]
    return seal(plan_document(routes, default="deny", revision=revision, sandboxId=sandbox_id))


@contextmanager
def whole_scene(folder: Path, max_stale: str) -> Iterator[Scene]:
    folder.mkdir(exist_ok=True)
    files = write_origin_files(folder, [HOST, LATER_HOST])
    labels = {secret: connection_id for connection_id, secret in SECRETS.items()}
    with ExitStack() as stack:
        origin = stack.enter_context(in_background(load_origin(labels, files.server_context())))
        setting = Setting(plan=the_plan(SANDBOX), credentials=SECRETS)
        up = stack.enter_context(up_process(folder / "up", setting, "--no-sandbox"))
        relay = stack.enter_context(relaying(ControlRelay, up.addresses["controlPlane"]))
        control = {
            "url": f"http://127.0.0.1:{relay.port}",
            "token_file": str(up.data_dir / "control-plane" / "service-token.gateway"),
            "gateway_id": "gw_behind_a_relay",
            "max_stale": max_stale,
        }
        upstream = {
            "connect_to": {f"{host}:443": f"127.0.0.1:{origin.port}" for host in (HOST, LATER_HOST)},
            "ca_file": str(files.ca_file),
        }
        further = {"timeouts": {"credential": WAIT, "plan": WAIT, "drain": "1s"}}
        gateway = stack.enter_context(linked_gateway(folder / "gateway", control, upstream, further))
        until(lambda: gateway.metric("sallyport_control_watch_connected") == 1, BACK_SECONDS, "watch stream")
        yield Scene(up=up, operator=Operator(up), relay=relay, gateway=gateway, origin=origin, folder=folder)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with whole_scene(tmp_path_factory.mktemp("control"), "5s") as scene:
        yield scene


def until(condition: Callable[[], bool], within_seconds: float, what: str) -> None:
    deadline = time.perf_counter() + within_seconds
    while not condition():
        assert time.perf_counter() < deadline, f"no {what}"
        time.sleep(0.02)


def ask(sandboxd: SandboxdProcess, host: str = HOST) -> tuple[int, str | None]:
    """Ask once; return the status, and which credential arrived or the code of our refusal."""
    try:
        answered = ask_once(sandboxd.proxy_url, sandboxd.ca_file, host)
    except ConnectRefused as refused:
        answered = refused.answered
    return answered.status, answered.code or answered.body.decode()


GOOD = (200, "con_load")


# ---- an answer that is lost


def test_a_lost_answer_to_a_renewal_costs_nothing(scene: Scene) -> None:
    scene.new_sandbox("sbx_lost")
    tokens = scene.operator.mint("sbx_lost")
    scene.relay.lose("/tokens")
    with scene.sandbox("sbx_lost", {"renewalToken": tokens["renewalToken"]}) as sandboxd:
        sandboxd.await_event("token_renewed")
        assert scene.relay.lost == 1
        assert ask(sandboxd) == GOOD
        # The renewal token was used up by the answer that was lost, and is not held against the sandbox.
        assert scene.relay.count("/sbx_lost/tokens") >= 2
        assert sandboxd.count("tunnel_opened") == 1


@pytest.mark.full
@pytest.mark.timeout(180)
def test_a_lost_answer_at_half_life_is_asked_for_again(scene: Scene) -> None:
    scene.new_sandbox("sbx_half")
    # Half of it, and the 30 s after which sandboxd tries again, and the margin in which it is not used any more.
    tokens = scene.operator.mint("sbx_half", ttl_seconds=90)
    with scene.sandbox("sbx_half", tokens) as sandboxd:
        scene.relay.lose("/sbx_half/tokens")
        sandboxd.await_event("token_not_renewed", within_seconds=60)
        sandboxd.await_event("token_renewed", within_seconds=45)
        assert (sandboxd.count("tunnel_ended"), ask(sandboxd)) == (0, GOOD)


# ---- away


def asked_since(relay: ControlRelay, mark: int) -> list[str]:
    return [asked.line for asked in relay.asked[mark:]]


@pytest.mark.timeout(120)
def test_while_it_is_away_what_is_known_serves_on_and_then_no_more(scene: Scene) -> None:
    scene.new_sandbox("sbx_known")
    scene.new_sandbox("sbx_new")
    new_tokens = scene.operator.mint("sbx_new")
    with scene.sandbox("sbx_known") as known:
        assert ask(known) == GOOD
        # Heard a moment ago: the age of what is known begins now.
        scene.operator.put_plan(the_plan("sbx_known", revision=2))
        known.await_event("managed_set", revision=2)
        away_at = time.perf_counter()
        scene.relay.go_away()
        before = scene.origin.asked
        assert ask(known, LATER_HOST) == (503, "credential_temporarily_unavailable")
        assert scene.origin.asked == before, "nothing was sent upstream"
        while time.perf_counter() - away_at < 3:
            assert ask(known) == GOOD
        before = scene.origin.asked
        # Only now: a start may take longer than what is known serves on.
        with scene.sandbox("sbx_new", new_tokens, is_managed=False) as new:
            new.await_event("tunnel_opened")
            assert ask(new) == (503, "plan_unavailable")
            assert scene.origin.asked == before, "nothing was sent upstream"
            until(lambda: ask(known) == (503, "plan_unavailable"), 10, "end of what is known")
            figure("from losing the control plane to refusing (max_stale 5 s)", time.perf_counter() - away_at)
            status, body = scene.gateway.ask_admin("GET", "/readyz")
            assert (status, b"plans_too_old" in body) == (503, True)
            came_back(scene, known, new)


def came_back(scene: Scene, known: SandboxdProcess, new: SandboxdProcess) -> None:
    """Everything recovers by itself, however many wait for it, and the control plane is asked for little."""
    mark = len(scene.relay.asked)
    stopped: list[None] = []

    def keep_asking(sandboxd: SandboxdProcess) -> None:
        while not stopped:
            ask(sandboxd)

    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(keep_asking, sandboxd) for sandboxd in (known, new) for _ in range(4)]
        back_at = time.perf_counter()
        scene.relay.come_back()
        until(lambda: ask(known) == GOOD, BACK_SECONDS, "recovery")
        figure("from its return to the first good request", time.perf_counter() - back_at)
        until(lambda: ask(new) == GOOD, BACK_SECONDS, "recovery of the sandbox that came meanwhile")
        stopped.append(None)
        for each in running:
            each.result(BACK_SECONDS)
    assert ask(known, LATER_HOST) == (200, "con_later")
    asked = asked_since(scene.relay, mark)
    # One watch stream, one plan for the sandbox that had none, one question for each credential of each sandbox.
    assert sum("/plans/watch" in line for line in asked) == 1
    assert sum(line.endswith("/plan") for line in asked) <= 2
    assert sum("/resolve" in line for line in asked) <= 3
    assert len(asked) < 20, asked
    assert scene.gateway.ask_admin("GET", "/readyz")[0] == 200


@pytest.mark.full
@pytest.mark.timeout(1000)
def test_ten_minutes_without_it(tmp_path: Path) -> None:
    with whole_scene(tmp_path, "1h") as scene:
        scene.new_sandbox("sbx_known")
        with scene.sandbox("sbx_known") as known:
            assert ask(known) == GOOD
            away_at = time.perf_counter()
            scene.relay.go_away()
            served = 0
            while time.perf_counter() - away_at < 600:
                assert ask(known) == GOOD
                served += 1
                time.sleep(1)
            figure("good requests in ten minutes without the control plane", served, "requests")
            assert known.count("tunnel_ended") == 0
            back_at = time.perf_counter()
            scene.relay.come_back()
            until(lambda: ask(known, LATER_HOST) == (200, "con_later"), 60, "recovery")
            figure("from its return to a credential that was not known", time.perf_counter() - back_at)


# ---- misbehaving


@dataclass(frozen=True, slots=True, kw_only=True)
class Faked:
    """A gateway and a sandboxd under a control plane that does what a test says."""

    control: FakeControl
    loop: asyncio.AbstractEventLoop
    gateway: GatewayProcess
    sandboxd: SandboxdProcess
    origin: LoadOrigin

    def publish(self, document: bytes) -> None:
        asyncio.run_coroutine_threadsafe(self.control.publish(document), self.loop).result(10)


WRONG: dict[str, tuple[Answer, int, str]] = {
    "no answer": (hang, 503, "credential_temporarily_unavailable"),
    "a closed connection": (hang_up, 503, "credential_temporarily_unavailable"),
    "half an answer": (break_off, 503, "credential_temporarily_unavailable"),
    "a huge answer": (answer(200, b'{"kind": "value", "value": "' + b"x" * 4_000_000), 503, "credential_temporarily_"),
    "no JSON": (answer(200, b"<html>"), 503, "credential_temporarily_unavailable"),
    "another shape": (answer(200, b'{"kind": "value", "value": 7}'), 503, "credential_temporarily_unavailable"),
    "a field nobody knows": (
        answer(200, json.dumps({"kind": "value", "value": "v" * 20, "version": "1", "more": 1}).encode()),
        503,
        "credential_temporarily_unavailable",
    ),
    "a redirect": (answer(302, Location="http://127.0.0.1:1/"), 503, "credential_temporarily_unavailable"),
    "a fault of its own": (answer(500, b"Traceback (most recent call last)"), 503, "credential_temporarily_"),
    "too many requests": (refusal(429, "rate_limited"), 503, "credential_temporarily_unavailable"),
    "a failed refresh": (refusal(503, "refresh_failed_temporary"), 503, "credential_temporarily_unavailable"),
    "no such connection": (refusal(404, "connection_not_found"), 502, "credential_unavailable"),
    "a value with a line break": (
        answer(200, json.dumps({"kind": "value", "value": "a\r\nX-Evil: 1", "version": "1"}).encode()),
        502,
        "credential_unavailable",
    ),
}


def host_of(number: int) -> str:
    return f"wrong{number}.load.test"


def fake_plan(revision: int = 1) -> bytes:
    """A route for each way to misbehave: what was refused for one is remembered for a moment."""
    routes = [route(f"wrong{number}", [host_of(number)], f"con_{number}") for number in range(len(WRONG))]
    return plan([route("load", [HOST], "con_load"), *routes], revision=revision)


@pytest.fixture(scope="module")
def faked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faked]:
    folder = tmp_path_factory.mktemp("faked")
    hosts = [HOST, *map(host_of, range(len(WRONG)))]
    files = write_origin_files(folder, hosts)
    with (
        in_background(load_origin({SECRETS["con_load"]: "con_load"}, files.server_context())) as origin,
        in_background(fake()) as (control, loop),
        linked_gateway(folder / "gateway", *fake_settings(folder, control, origin, files, hosts)) as gateway,
    ):
        now = time.time_ns() // 10**9
        claims = signed_tokens.claims(
            aud="sallyport-tunnel", sub=SANDBOX, org=ORGANIZATION, iat=now, nbf=now, exp=now + 3600
        )
        token = signed_tokens.mint(claims, header={"alg": "EdDSA", "kid": "fake"})
        url = f"ws://127.0.0.1:{gateway.tunnel_port}"
        with sandboxd_process(folder / "sandboxd", url, {"token": token}) as sandboxd:
            yield Faked(control=control, loop=loop, gateway=gateway, sandboxd=sandboxd, origin=origin)


def fake_settings(
    folder: Path, control: FakeControl, origin: LoadOrigin, files: OriginFiles, hosts: list[str]
) -> tuple[dict[str, object], dict[str, object], dict[str, object]]:
    return (
        {"url": control.url, "token_file": str(control.token_file(folder)), "gateway_id": "gw_under_a_fake"},
        {"connect_to": {f"{host}:443": f"127.0.0.1:{origin.port}" for host in hosts}, "ca_file": str(files.ca_file)},
        {"timeouts": {"credential": WAIT, "plan": WAIT, "drain": "1s"}},
    )


@asynccontextmanager
async def fake() -> AsyncIterator[tuple[FakeControl, asyncio.AbstractEventLoop]]:
    async with fake_control() as control:
        # Before a gateway asks: no event tells of it.
        control.credentials["con_load"] = {"kind": "value", "value": SECRETS["con_load"], "version": "1"}
        control.plans[SANDBOX] = fake_plan()
        yield control, asyncio.get_running_loop()


@pytest.mark.parametrize("name", WRONG)
def test_c11_a_credential_that_does_not_come_is_a_documented_answer_and_nothing_is_sent(
    faked: Faked, name: str, in_time: InTime
) -> None:
    wrong, status, code = WRONG[name]
    number = list(WRONG).index(name)
    faked.control.misbehave(RESOLVE, *[wrong] * 10)  # more often than it is asked
    before = faked.origin.asked
    try:
        begun_at = time.perf_counter()
        answered = ask_once(faked.sandboxd.proxy_url, faked.sandboxd.ca_file, host_of(number))
        seconds = time.perf_counter() - begun_at
    finally:
        faked.control.behave(RESOLVE)
    assert (answered.status, str(answered.code)[: len(code)]) == (status, code)
    assert ("Retry-After" in answered.headers) == (status == 503)
    assert b"Traceback" not in answered.body
    in_time(f"the answer where the control plane gives {name}", seconds, 5)
    assert ask(faked.sandboxd) == GOOD, "the others are served"
    assert faked.origin.asked == before + 1, "nothing but that was sent upstream"


def test_c11_a_plan_that_does_not_come_leaves_the_one_before_in_force(faked: Faked) -> None:
    path = f"/internal/sandboxes/{SANDBOX}/plan"
    passing: list[Answer] = [hang_up, break_off, answer(500, b"no"), answer(200, b"x" * 5_000_000)]
    for revision, wrong in enumerate(passing, start=2):
        faked.control.misbehave(path, wrong)
        faked.publish(fake_plan(revision))
        assert ask(faked.sandboxd) == GOOD
        faked.sandboxd.await_event("managed_set", revision=revision)
    # A plan that is none is not asked for again: the next one is.
    faked.control.misbehave(path, answer(200, b"{}"))
    faked.publish(fake_plan(10))
    until(lambda: faked.gateway.metric("sallyport_plan_fetches_total", result="invalid") == 1, 10, "refusal")
    assert ask(faked.sandboxd) == GOOD
    faked.publish(fake_plan(11))
    faked.sandboxd.await_event("managed_set", revision=11)
    assert ask(faked.sandboxd) == GOOD
    assert faked.sandboxd.count("managed_set", revision=10) == 0
