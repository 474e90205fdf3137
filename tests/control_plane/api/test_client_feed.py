"""The feed over HTTP: who is answered what, and in which bytes."""

from typing import Any

import httpx
import pytest

from control_plane.callers import CLIENT_FEED
from tests.support.control_plane import ORGANIZATION, Replica, client_of

FRONT = "http://127.0.0.1:4300"
NO_KEY = "sp_sk_" + "0" * 64


class Feed:
    """A control plane with an instance `default`, whose servers a worker reports to run."""

    def __init__(self, api: Replica) -> None:
        self.api = api
        self.keys: dict[str, str] = {}
        self._servers: dict[str, str] = {}

    async def prepare(self) -> None:
        await self.api.ask(
            "POST", "/api/instances", {"organizationId": ORGANIZATION, "instanceId": "default"}, status=201
        )
        for tier in ("standard", "admin"):
            body = {"instanceId": "default", "tier": tier}
            self.keys[tier] = (await self.api.ask("POST", "/api/auth/keys", body, status=201))["key"]
        await self.report()

    async def share(self, tool_id: str, tier: str = "standard") -> str:
        body = {"instanceId": "default", "toolId": tool_id, "tier": tier, "source": "time"}
        made = await self.api.ask("POST", "/api/shared-tools", body, status=202)
        return await self._run(made["sharedToolId"], tier)

    async def install(self, tool_id: str, user_id: str) -> str:
        body = {"instanceId": "default", "toolId": tool_id, "userId": user_id, "source": "time"}
        made = await self.api.ask("POST", "/api/installations", body, status=202)
        return await self._run(made["installationId"], "standard")

    async def _run(self, server_id: str, tier: str) -> str:
        self._servers[server_id] = tier
        await self.report()
        return server_id

    async def report(self, **statuses: str) -> None:
        servers = [
            {"serverId": server_id, "tier": tier, "status": statuses.get(server_id, "running"), "tools": []}
            for server_id, tier in self._servers.items()
        ]
        body = {"epoch": 1, "apiUrl": "http://127.0.0.1:9", "frontUrl": FRONT, "servers": servers}
        await self.api.ask("PUT", "/internal/v1/workers/wrk_1", body)

    async def get(self, key: str, query: str = "?instanceId=default", **headers: str) -> httpx.Response:
        async with client_of(self.api.plane.port, key) as client:
            return await client.get(f"{CLIENT_FEED}{query}", headers=headers)

    async def served(self, tier: str, query: str = "?instanceId=default") -> Any:  # noqa: ANN401  JSON
        return (await self.get(self.keys[tier], query)).json()["mcpServers"]


@pytest.fixture
async def feed(api: Replica) -> Feed:
    made = Feed(api)
    await made.prepare()
    return made


async def test_each_tier_is_served_what_it_may_see(feed: Feed) -> None:
    await feed.share("search")
    await feed.share("operator-only", "admin")
    installation_id = await feed.install("notes", "u@x")
    mine = f"notes__user_u@x__{installation_id}"
    everybody = {"search": {"type": "streamable", "url": f"{FRONT}/mcp/search"}}
    own = {mine: {"type": "streamable", "url": f"{FRONT}/mcp/{mine.replace('@', '%40')}"}}
    ops = {
        "operator-only": {"type": "streamable", "url": f"{FRONT}/mcp/operator-only"},
        "sallyport": {"type": "streamable", "url": f"http://127.0.0.1:{feed.api.plane.port}/mcp"},
    }
    assert await feed.served("standard") == everybody
    assert await feed.served("standard", "?instanceId=default&userId=u%40x") == everybody | own
    assert await feed.served("standard", "?instanceId=default&userId=nobody") == everybody
    assert await feed.served("admin") == everybody | ops
    assert await feed.served("admin", "?instanceId=default&userId=u%40x") == everybody | ops | own


async def test_what_does_not_run_is_not_served(feed: Feed) -> None:
    server_id = await feed.share("search")
    for status, is_served in (("restarting", True), ("starting", True), ("crash_loop", False), ("running", True)):
        await feed.report(**{server_id: status})
        assert (await feed.served("standard") != {}) == is_served, status
    await feed.api.ask("POST", f"/api/shared-tools/{server_id}/stop")
    assert await feed.served("standard") == {}


async def test_what_is_unchanged_is_not_sent_again(feed: Feed) -> None:
    await feed.share("search")
    first = await feed.get(feed.keys["standard"])
    assert first.headers["vary"] == "Authorization, X-API-Key"
    assert first.headers["cache-control"] == "private"
    # The control plane's own server, which this key does not see, was the first change.
    assert (first.headers["x-sallyport-revision"], "x-sallyport-stale" in first.headers) == ("2", False)
    etag = first.headers["etag"]
    again = await feed.get(feed.keys["standard"], **{"If-None-Match": etag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    # What a standard key does not see changes nothing of what it gets but the revision.
    await feed.share("operator-only", "admin")
    other = await feed.get(feed.keys["standard"], **{"If-None-Match": etag})
    assert (other.status_code, other.headers["x-sallyport-revision"]) == (304, "3")
    admin = await feed.get(feed.keys["admin"], **{"If-None-Match": etag})
    assert (admin.status_code, admin.headers["etag"] == etag) == (200, False)
    await feed.share("mail")
    assert (await feed.get(feed.keys["standard"], **{"If-None-Match": etag})).status_code == 200


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_who_is_not_answered(feed: Feed) -> None:
    await feed.api.ask("POST", "/api/instances", {"organizationId": "org_two", "instanceId": "theirs"}, status=201)
    answers = {}
    for key, query in (
        (NO_KEY, "?instanceId=default"),
        (feed.keys["standard"], "?instanceId=theirs"),
        (feed.keys["standard"], "?instanceId=none"),
        (feed.keys["standard"], ""),
        (feed.keys["standard"], "?instanceId=default&user=u"),
    ):
        answer = await feed.get(key, query)
        document = answer.json()
        assert answer.headers["content-type"] == "application/problem+json"
        del document["requestId"]
        answers[key == NO_KEY, query] = (answer.status_code, document)
    assert answers[True, "?instanceId=default"][1]["code"] == "unauthorized"
    assert answers[False, "?instanceId=theirs"] == answers[False, "?instanceId=none"]
    assert [status for status, _ in answers.values()] == [401, 403, 403, 400, 400]


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_a_key_comes_in_either_header_and_no_other_credential_is_one(feed: Feed) -> None:
    key = feed.keys["standard"]
    assert (await feed.get(key, **{"X-API-Key": key})).status_code == 401
    async with client_of(feed.api.plane.port, "x") as client:
        del client.headers["authorization"]
        assert (await client.get(f"{CLIENT_FEED}?instanceId=default")).status_code == 401
        headers = {"X-API-Key": key}
        assert (await client.get(f"{CLIENT_FEED}?instanceId=default", headers=headers)).status_code == 200
        # And a client key is none for the API.
        assert (await client.get("/api/instances", headers=headers)).status_code == 401
    assert (await feed.api.client.get(f"{CLIENT_FEED}?instanceId=default")).status_code == 401
    async with feed.api.caller("operator") as operator:
        assert (await operator.client.get(f"{CLIENT_FEED}?instanceId=default")).status_code == 401


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_no_name_of_an_admin_s_reaches_a_standard_key_in_any_byte(feed: Feed) -> None:
    await feed.share("operator-only", "admin")
    heard = []
    for query in ("?instanceId=default", "?instanceId=none", "", "?instanceId=default&userId=operator"):
        answer = await feed.get(feed.keys["standard"], query)
        heard.append(repr(answer.headers).encode() + answer.content)
    assert b"operator-only" not in b"".join(heard)
    assert b"operator-only" in (await feed.get(feed.keys["admin"])).content


async def test_a_revoked_key_is_refused_from_the_next_request_on(feed: Feed) -> None:
    body = {"instanceId": "default", "tier": "standard"}
    made = await feed.api.ask("POST", "/api/auth/keys", body, status=201)
    assert (await feed.get(made["key"])).status_code == 200
    await feed.api.ask("DELETE", f"/api/auth/keys/{made['clientKeyId']}", status=204)
    assert (await feed.get(made["key"])).status_code == 401
