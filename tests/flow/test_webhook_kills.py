"""A control plane dies at every step of a webhook's way, and another one finds the rest in the database.

The provider is GitHub: it sends again until it is answered 200. What was written is what subscribers hear: nothing
less, nothing else, under the same id however often.
"""

import asyncio
import json
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest
from sqlalchemy import select

from control_plane.config import ControlPlaneConfig
from control_plane.definitions.catalog import CATALOG
from control_plane.definitions.contract import HmacSignature, MethodKind
from control_plane.definitions.registry import Registry
from control_plane.foundation import foundation
from control_plane.store.models import WebhookDelivery, WebhookEvent
from control_plane.webhooks.endpoints import WebhookEndpoints
from control_plane.webhooks.subscriptions import WebhookSubscriptions
from tests.support.control_plane import CONNECTION, settings
from tests.support.killed_plane import STEPS
from tests.support.planes import Planes
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.subscriber import Subscriber, subscriber_server
from tests.support.webhook_signatures import signed
from tests.support.webhook_stage import DAY, PROFILE, PUBLIC_URL, bind, connect, offer

EVENTS: Final = 12
AT_ONCE: Final = 3
# The step is struck in the middle of what there is to do.
HIT: Final = 3
SECONDS: Final = 60.0
SCHEME: Final = HmacSignature(header="x-hub-signature-256", prefix="sha256=")
GITHUB: Final = next(each for each in CATALOG if each.target_key == "github-cloud")


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def subscriber(tmp_path: Path) -> Iterator[Subscriber]:
    with subscriber_server(tmp_path / "subscriber") as server:
        yield server


async def prepare(config: ControlPlaneConfig, subscriber: Subscriber) -> str:
    """Offer, connect, bind, subscribe; return the path of an endpoint."""
    async with foundation(config, now=time.time()) as base:  # noqa: TID251  the processes have the real clock
        await offer(base, GITHUB)
        config_ = {"installationId": "777"}
        await connect(base, GITHUB.target_key, config=config_, method=MethodKind.GITHUB_APP_INSTALLATION)
        await bind(base)
        subscriptions = WebhookSubscriptions(base.database, base.vault, give_up_seconds=DAY)
        await subscriptions.create(PROFILE, subscriber.url(), (), 1.0)
        made = await WebhookEndpoints(base.database, Registry(CATALOG), PUBLIC_URL).create(
            GITHUB.target_key, None, None, 1.0
        )
    return str(made["url"]).removeprefix(PUBLIC_URL)


async def send(planes: Planes, path: str, number: int, turns: asyncio.Semaphore) -> None:
    """Send one event until it is answered 200, as a patient provider does."""
    body = json.dumps({"action": "opened", "installation": {"id": 777}, "number": number}).encode()
    headers = {"x-github-event": "issues", "x-github-delivery": f"guid-{number}"} | signed(SCHEME, body, 0)
    async with turns, httpx.AsyncClient(trust_env=False, timeout=5) as client:
        while True:
            try:
                answer = await client.post(planes.url + path, content=body, headers=headers)
            except httpx.TransportError:
                await asyncio.sleep(0.02)
                continue
            assert answer.status_code == 200, answer.text
            return


async def written(config: ControlPlaneConfig) -> tuple[list[WebhookEvent], list[WebhookDelivery]]:
    """Return what the database says."""
    async with foundation(config, now=1.0, prepare=False) as base, base.database.read() as tx:
        return list(await tx.all(select(WebhookEvent))), list(await tx.all(select(WebhookDelivery)))


async def all_delivered(config: ControlPlaneConfig) -> list[WebhookEvent]:
    """Wait until everything that was written is delivered, and return the events."""
    while True:
        events, deliveries = await written(config)
        if len(deliveries) == EVENTS and {each.state for each in deliveries} == {"delivered"}:
            return events
        await asyncio.sleep(0.1)


async def killed_at(step: str, url: str | None, folder: Path, subscriber: Subscriber) -> None:
    variables = {
        "SALLYPORT_DATA_DIR": str(folder / "data"),
        "SALLYPORT_API_LISTEN": "127.0.0.1:0",
        "SALLYPORT_OUTBOUND_ALLOW": "127.0.0.0/8",
        "SALLYPORT_OUTBOUND_CA_FILE": str(subscriber.ca_file),
        "SALLYPORT_WEBHOOKS_DELIVERY_TIMEOUT": "1s",
    } | ({} if url is None else {"SALLYPORT_DATABASE_URL": url})
    config = settings(folder / "data", url)
    path = await prepare(config, subscriber)
    planes, turns = Planes(variables, HIT), asyncio.Semaphore(AT_ONCE)
    await planes.start(step)
    try:
        async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
            for number in range(EVENTS):
                group.create_task(send(planes, path, number, turns))
            assert await planes.wait() == -signal.SIGKILL
            await planes.start("none")
        async with asyncio.timeout(SECONDS):
            events = await all_delivered(config)
    finally:
        status = await planes.stop()
    assert status == 0
    assert {event.external_id for event in events} == {f"guid-{number}" for number in range(EVENTS)}
    heard: defaultdict[str, set[bytes]] = defaultdict(set)
    for told in subscriber.told:
        heard[told.id].add(told.body)
    assert set(heard) == {event.id for event in events}
    assert {len(bodies) for bodies in heard.values()} == {1}
    assert {(event.connection_id, event.state) for event in events} == {(CONNECTION, "processed")}
    # Only what was under way when it died is heard again.
    assert len(subscriber.told) - EVENTS <= 4


@pytest.mark.full
@pytest.mark.timeout(180)
@pytest.mark.counted("kills of a control plane with webhooks", "events lost")
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_every_step(
    kind: str, step: str, tmp_path: Path, subscriber: Subscriber, request: pytest.FixtureRequest
) -> None:
    url = None
    if kind == "postgresql":
        server = request.getfixturevalue("postgres")
        assert isinstance(server, PostgresServer)
        url = server.url(server.create())
    await killed_at(step, url, tmp_path, subscriber)
