"""The whole client: two keys that share nothing, pushes by their secrets."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from aiohttp import web

from control_client.config import load_config
from control_client.errors import ControlError
from control_client.feed_state import Tier
from control_client.tool_client import ToolClient
from control_client.tool_errors import UNKNOWN, ToolCallError
from demo.certificates import write_origin_files
from tests.support.client_feed import (
    ADMIN_KEY,
    ADMIN_SECRET,
    INSTANCE,
    STANDARD_KEY,
    STANDARD_SECRET,
    ClientFeed,
    client_feed,
    entry,
)
from tests.support.tool_server import ToolPlace, tools_here
from tests.support.until import until

PATH = "/push"
KEYS = {"shared": f"{STANDARD_KEY},{ADMIN_KEY}", "operator": ADMIN_KEY}
BOTH = {"SALLYPORT_API_KEY_STANDARD": STANDARD_KEY, "SALLYPORT_API_KEY_ADMIN": ADMIN_KEY}


@contextlib.asynccontextmanager
async def world(tmp_path: Path, keys: dict[str, str]) -> AsyncIterator[tuple[ToolClient, ClientFeed, ToolPlace]]:
    """A client with a receiver, its feed, and servers for either key."""
    async with client_feed() as feed, tools_here("A", KEYS) as place:
        feed.servers["shared"] = (Tier.STANDARD, place.url("shared"))
        environment = keys | {
            "SALLYPORT_CLIENT_URL": feed.url,
            "SALLYPORT_CLIENT_INSTANCE_ID": INSTANCE,
            "SALLYPORT_CLIENT_STATE_DIR": "state",
            "SALLYPORT_PUSH_SECRET_STANDARD": STANDARD_SECRET,
            "SALLYPORT_PUSH_SECRET_ADMIN": ADMIN_SECRET,
        }
        client = ToolClient(load_config(environment, tmp_path))
        app = web.Application()
        client.receiver.add_to(app, PATH)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        feed.subscribers = dict.fromkeys(Tier, f"http://127.0.0.1:{runner.addresses[0][1]}{PATH}")
        try:
            async with client:
                yield client, feed, place
        finally:
            await runner.cleanup()


async def test_each_call_goes_by_its_own_key_and_sees_its_own_tier(tmp_path: Path) -> None:
    async with world(tmp_path, BOTH) as (client, feed, place):
        await client.settled(Tier.STANDARD)
        await client.settled(Tier.ADMIN)
        await feed.change("shared_tool_started", added={"operator": (Tier.ADMIN, place.url("operator"))})
        await until(lambda: "operator" in client.view(Tier.ADMIN).toolsets)
        arguments = {"caller": "a", "number": 1}
        found = await client.call(Tier.ADMIN, "operator", "operator_echo", arguments)
        assert json.loads(found.content[0]["text"])["server"] == "operator"
        with pytest.raises(ToolCallError, match=UNKNOWN):
            await client.call(Tier.STANDARD, "operator", "operator_echo", arguments)
        assert not (await client.call(Tier.STANDARD, "shared", "shared_echo", arguments)).is_error
        assert feed.statuses == [200]  # the standard subscription hears of no admin server
        assert b"operator" not in b"".join(feed.sent[Tier.STANDARD])
        assert repr(client) == "<ToolClient admin, standard>"
        assert not client.is_stale(Tier.STANDARD)
    assert {shown for _, shown in place.shown} == {f"Bearer {STANDARD_KEY}", f"Bearer {ADMIN_KEY}"}
    assert sorted(path.name.split("-")[1] for path in (tmp_path / "state").iterdir()) == ["admin", "standard"]


@pytest.mark.parametrize("has", list(Tier))
async def test_no_key_stands_in_for_the_other(tmp_path: Path, has: Tier) -> None:
    keys = {name: key for name, key in BOTH.items() if name.endswith(has.upper())}
    other = Tier.ADMIN if has is Tier.STANDARD else Tier.STANDARD
    async with world(tmp_path, keys) as (client, feed, _):
        await client_asked(feed)
        with pytest.raises(ControlError, match="no_key_of_tier"):
            client.view(other)
        with pytest.raises(ControlError, match="no_key_of_tier"):
            await client.call(other, "shared", "shared_echo", {})
        with pytest.raises(ControlError, match="no_key_of_tier"):
            await client.settled(other)
        await feed.push(other, "config_changed", None)
        assert {tier for tier, _, _ in feed.asked} == {has}


async def test_a_push_at_one_secret_says_nothing_to_the_other_tier(tmp_path: Path) -> None:
    async with world(tmp_path, BOTH) as (client, feed, place):
        await client.settled(Tier.STANDARD)
        await client_asked(feed, 2)
        feed.revision = 1
        delta = {"added": {"operator": entry(place.url("operator"))}, "removed": []}
        await feed.push(Tier.ADMIN, "shared_tool_started", delta)
        await until(lambda: "operator" in client.view(Tier.ADMIN).toolsets)
        assert sorted(client.view(Tier.STANDARD).toolsets) == ["shared"]


async def test_feed_and_servers_by_tls_are_trusted_by_the_bundle_alone(tmp_path: Path) -> None:
    files = write_origin_files(tmp_path, ["127.0.0.1"])
    context = files.server_context()
    async with client_feed(context) as feed, tools_here("A", KEYS, context=context) as place:
        feed.servers["shared"] = (Tier.STANDARD, place.url("shared"))
        environment = {
            "SALLYPORT_API_KEY_STANDARD": STANDARD_KEY,
            "SALLYPORT_CLIENT_URL": feed.url,
            "SALLYPORT_CLIENT_INSTANCE_ID": INSTANCE,
        }
        trusting = environment | {"SALLYPORT_CLIENT_CA_FILE": str(files.ca_file)}
        async with ToolClient(load_config(trusting, tmp_path)) as client:
            await client.settled(Tier.STANDARD)
            found = await client.call(Tier.STANDARD, "shared", "shared_echo", {"caller": "a", "number": 1})
            assert not found.is_error
        feed.asked.clear()
        with structlog.testing.capture_logs() as logs:
            async with ToolClient(load_config(environment, tmp_path)):
                await until(lambda: bool(logs))
        assert {entry["event"] for entry in logs} == {"feed_not_read"}
        assert feed.asked == []


async def client_asked(feed: ClientFeed, times: int = 1) -> None:
    await until(lambda: len(feed.asked) >= times)
    await asyncio.sleep(0)
