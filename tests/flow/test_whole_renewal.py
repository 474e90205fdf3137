"""Tokens run out, answers are lost, sandboxes sleep, managed sets grow old: the sandbox goes on, and no thief does."""

import asyncio
import json
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from demo.certificates import write_origin_files
from sallyport.net.websocket_upgrade import upgrade_request
from sallyport.plan.codec import seal
from sallyport.wire.websocket import EXPIRED, REVOKED
from tests.support.background import in_background
from tests.support.figures import figure
from tests.support.gateway_plans import ORGANIZATION, SANDBOX, route
from tests.support.gateway_process import Setting
from tests.support.load_origin import load_origin
from tests.support.operator import Operator
from tests.support.plan_documents import plan_document
from tests.support.raw_end import RawEnd
from tests.support.relay import TunnelRelay, Verdict, relaying
from tests.support.sandbox_program import Program, ask_once
from tests.support.sandboxd_process import SandboxdProcess, sandboxd_process
from tests.support.up_process import UpProcess, up_process

# Four processes start one after the other, on a machine that may be busy with other tests.
pytestmark = pytest.mark.timeout(120)


HOST = "api.load.test"
LATER_HOST = "later.load.test"
SECRET = "credential-behind-renewed-tokens"
# Half of it is when sandboxd asks for the next one; the last 5 s of it are not used. A start takes some of the rest.
SHORT_SECONDS = 16
# Where a new tunnel has to be there within what is left of it: a busy machine takes some seconds for one.
LONGER_SECONDS = 30
BACK_SECONDS = 30.0
# How long the answer to a renewal is repeated (control_plane.minting).
REPEAT_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Everything but a sandboxd."""

    up: UpProcess
    operator: Operator
    folder: Path
    numbers: Iterator[int]

    def new_sandbox(self, revision: int = 1) -> str:
        """Make a sandbox with the plan."""
        sandbox_id = f"sbx_renewing{next(self.numbers)}"
        self.operator.make_sandbox(sandbox_id, ORGANIZATION)
        self.operator.put_plan(the_plan(sandbox_id, [HOST], revision))
        return sandbox_id

    @property
    def audit(self) -> list[dict[str, object]]:
        lines = (self.up.data_dir / "gateway" / "audit.jsonl").read_bytes().split(b"\n")[:-1]
        return [json.loads(line) for line in lines]


def the_plan(sandbox_id: str, hosts: list[str], revision: int = 1) -> bytes:
    routes = [route("load", hosts, "con_load")]
    return seal(plan_document(routes, default="passthrough", revision=revision, sandboxId=sandbox_id))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("renewal")
    files = write_origin_files(folder, [HOST, LATER_HOST])
    with in_background(load_origin({SECRET: "good"}, files.server_context())) as origin:
        setting = Setting(
            plan=the_plan(SANDBOX, [HOST]),
            credentials={"con_load": SECRET},
            connect_to={f"{host}:443": f"127.0.0.1:{origin.port}" for host in (HOST, LATER_HOST)},
            ca_file=files.ca_file,
            further={"timeouts": {"drain": "1s"}},
        )
        with up_process(folder / "up", setting, "--no-sandbox") as up:
            yield World(up=up, operator=Operator(up), folder=folder, numbers=count())


def ask(sandboxd: SandboxdProcess, host: str = HOST) -> tuple[int, str | None]:
    """Ask once; return the status and what the origin said of the credential, or our code."""
    answered = ask_once(sandboxd.proxy_url, sandboxd.ca_file, host)
    return answered.status, answered.code or answered.body.decode()


GOOD = (200, "good")


def is_response(text: bytes) -> bool:
    return bool(json.loads(text)["type"] == "token.response")


def responses(relay: TunnelRelay) -> list[dict[str, object]]:
    return [json.loads(text) for text in relay.controls if is_response(text)]


def first_response(verdict: Verdict) -> Callable[[bytes], Verdict]:
    """Do something to the first token.response and pass on everything else."""
    left = [verdict]
    return lambda text: left.pop() if left and is_response(text) else Verdict.PASS


# ---- at half life


def the_answer_is_lost_with_its_tunnel(world: World) -> None:
    tokens = world.operator.mint(world.new_sandbox(), ttl_seconds=LONGER_SECONDS)
    with relaying(TunnelRelay, world.up.addresses["tunnel"]) as relay:
        relay.judge = first_response(Verdict.CUT)
        with sandboxd_process(world.folder / "cut", f"ws://127.0.0.1:{relay.port}", tokens) as sandboxd:
            sandboxd.await_event("token_renewed", within_seconds=LONGER_SECONDS + BACK_SECONDS)
            assert ask(sandboxd) == GOOD
            lost, answer = responses(relay)[:2]
            assert answer == lost, "the same question has the same answer"
            assert sandboxd.kept_renewal_token() == answer["renewalToken"]
            assert sandboxd.count("tunnel_ended") == 1  # the one that was cut
            assert (relay.accepted, sandboxd.count("gateway_refused")) == (2, 0)


def the_answer_alone_is_lost(world: World) -> None:
    tokens = world.operator.mint(world.new_sandbox(), ttl_seconds=SHORT_SECONDS)
    with relaying(TunnelRelay, world.up.addresses["tunnel"]) as relay:
        relay.judge = first_response(Verdict.DROP)
        with sandboxd_process(world.folder / "drop", f"ws://127.0.0.1:{relay.port}", tokens) as sandboxd:
            sandboxd.await_event("token_renewed", within_seconds=SHORT_SECONDS + BACK_SECONDS)
            assert ask(sandboxd) == GOOD
            lost, answer = responses(relay)[:2]
            assert answer == lost
            assert sandboxd.count("tunnel_ended") == 0
            # Beyond the life of the token it was opened with.
            time.sleep(max(0.0, float(str(tokens["expiresAt"])) + 2 - time.time_ns() / 1e9))
            assert ask(sandboxd) == GOOD
            assert sandboxd.count("tunnel_ended") == 0


def it_sleeps_for_longer_than_its_token_lives(world: World) -> None:
    tokens = world.operator.mint(world.new_sandbox(), ttl_seconds=SHORT_SECONDS)
    with sandboxd_process(world.folder / "sleep", world.up.addresses["tunnel"], tokens) as sandboxd:
        sandboxd.process.send_signal(signal.SIGSTOP)
        time.sleep(max(0.0, float(str(tokens["expiresAt"])) + 1 - time.time_ns() / 1e9))
        woken_at = time.perf_counter()
        sandboxd.process.send_signal(signal.SIGCONT)
        sandboxd.await_event("tunnel_opened", shown="renewal")
        sandboxd.await_event("token_renewed")
        assert ask(sandboxd) == GOOD
        figure("from waking to the first good request", time.perf_counter() - woken_at)
        sandboxd.await_event("tunnel_ended", code=EXPIRED)
        assert sandboxd.kept_renewal_token() != tokens["renewalToken"]


QUICK = (the_answer_is_lost_with_its_tunnel, it_sleeps_for_longer_than_its_token_lives)
LONG = (the_answer_alone_is_lost,)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "stories", [pytest.param(QUICK, id="quick"), pytest.param(LONG, id="long", marks=pytest.mark.full)]
)
def test_a_sandbox_outlives_its_token(world: World, stories: tuple[Callable[[World], None], ...]) -> None:
    # Side by side, because most of each is waiting.
    with ThreadPoolExecutor(len(stories)) as pool:
        for running in [pool.submit(story, world) for story in stories]:
            running.result()


# ---- at the door


def test_an_answer_that_is_lost_at_the_door_is_given_again(world: World) -> None:
    tokens = world.operator.mint(world.new_sandbox())
    with relaying(TunnelRelay, world.up.addresses["tunnel"]) as relay:
        relay.judge = first_response(Verdict.CUT)
        shown = {"renewalToken": tokens["renewalToken"]}
        with sandboxd_process(world.folder / "door", f"ws://127.0.0.1:{relay.port}", shown) as sandboxd:
            sandboxd.await_event("token_renewed")
            assert ask(sandboxd) == GOOD
            lost, answer = responses(relay)[:2]
            assert answer == lost
            assert sandboxd.kept_renewal_token() == answer["renewalToken"]
            assert sandboxd.count("gateway_refused") == 0


async def knock(port: int, token: str) -> int:
    """Show a token at the door and return the status of the answer."""
    end = await RawEnd.dial(port)
    try:
        end.send(upgrade_request("gateway.test", token=token)[0])
        return int((await end.head()).split(b" ")[1])
    finally:
        end.close()


def let_a_minute_pass(up: UpProcess) -> None:
    """Make what was answered to renewals a minute older than it is."""
    with sqlite3.connect(up.data_dir / "control-plane" / "control-plane.db", timeout=10) as database:
        database.execute("UPDATE renewal_tokens SET used_at = used_at - ?", [REPEAT_SECONDS + 1])
        database.execute("UPDATE token_answers SET at = at - ?", [REPEAT_SECONDS + 1])
    database.close()


def really_let_a_minute_pass(up: UpProcess) -> None:
    """Wait for it."""
    time.sleep(REPEAT_SECONDS + 2)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "a_minute_passes",
    [
        pytest.param(let_a_minute_pass, id="soon"),
        pytest.param(really_let_a_minute_pass, id="in time", marks=pytest.mark.full),
    ],
)
def test_a_renewal_token_that_is_used_twice_ends_its_lineage(
    world: World, a_minute_passes: Callable[[UpProcess], None]
) -> None:
    sandbox_id = world.new_sandbox()
    tokens = world.operator.mint(sandbox_id)
    port = int(world.up.addresses["tunnel"].rpartition(":")[2])
    stolen = {"renewalToken": tokens["renewalToken"]}
    with sandboxd_process(world.folder / sandbox_id, world.up.addresses["tunnel"], stolen) as sandboxd:
        sandboxd.await_event("token_renewed")
        assert ask(sandboxd) == GOOD
        a_minute_passes(world.up)
        begun_at = time.perf_counter()
        assert asyncio.run(knock(port, tokens["renewalToken"])) == 401
        sandboxd.await_event("tunnel_ended", code=REVOKED)
        figure("from a second use of a renewal token to the end of the tunnel", time.perf_counter() - begun_at)
        # Neither the thief nor what the owner got from it comes in again; what an operator mints anew does.
        assert asyncio.run(knock(port, sandboxd.kept_renewal_token())) == 401
        fresh = world.operator.mint(sandbox_id)
        (sandboxd.folder / "token.json").write_text(json.dumps({"token": fresh["token"]}))
        sandboxd.await_event("tunnel_opened", times=2)
        assert ask(sandboxd) == GOOD


# ---- a managed set that is older than the plan


def test_a_set_older_than_the_plan_is_told_and_tried_once_more(world: World) -> None:
    sandbox_id = world.new_sandbox()
    tokens = world.operator.mint(sandbox_id)
    with relaying(TunnelRelay, world.up.addresses["tunnel"]) as relay:
        relay.judge = lambda text: Verdict.HOLD if b'"revision": 2' in text or b'"revision":2' in text else Verdict.PASS
        with sandboxd_process(world.folder / "stale", f"ws://127.0.0.1:{relay.port}", tokens) as sandboxd:
            world.operator.put_plan(the_plan(sandbox_id, [HOST, LATER_HOST], revision=2))
            told = b'"interception.set"'
            sandboxd.until(lambda: sum(told in text for text in relay.controls) == 2, 10, "second set")
            with ThreadPoolExecutor(1) as pool, Program(sandboxd.proxy_url, sandboxd.ca_file, LATER_HOST) as program:
                asking = pool.submit(program.ask)
                sandboxd.until(lambda: len(stale(world, sandbox_id)) == 1, 10, "answer that the set is stale")
                assert not asking.done()
                relay.release()
                answered = asking.result(BACK_SECONDS)
            assert (answered.status, answered.body) == (200, b"good"), "intercepted, and with the credential"
            assert sandboxd.count("managed_set", revision=2) == 1
            assert len(stale(world, sandbox_id)) == 1


def stale(world: World, sandbox_id: str) -> list[dict[str, object]]:
    return [
        record
        for record in world.audit
        if (record.get("sandboxId"), record.get("code")) == (sandbox_id, "stale_interception")
    ]
