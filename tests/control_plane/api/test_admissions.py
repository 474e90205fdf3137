import hashlib

import pytest

from tests.support.control_plane import ORGANIZATION, Replica

PATH = "/internal/v1/workers/wrk_1/admit"


async def test_a_front_is_told_who_calls_and_what(api: Replica) -> None:
    await api.ask("POST", "/api/instances", {"organizationId": ORGANIZATION, "instanceId": "default"}, status=201)
    report = {"epoch": 1, "apiUrl": "http://127.0.0.1:9", "frontUrl": "http://127.0.0.1:9", "servers": []}
    await api.ask("PUT", "/internal/v1/workers/wrk_1", report)
    tool = {"instanceId": "default", "toolId": "search", "tier": "standard", "source": "time"}
    server_id = (await api.ask("POST", "/api/shared-tools", tool, status=202))["sharedToolId"]
    key = await api.ask("POST", "/api/auth/keys", {"instanceId": "default", "tier": "standard"}, status=201)
    call = {"keyHash": hashlib.sha256(key["key"].encode()).hexdigest(), "name": "search"}
    answer = await api.client.post(PATH, json=call)
    assert answer.headers["cache-control"] == "no-store"
    who = {"keyId": key["clientKeyId"], "tier": "standard"}
    assert answer.json() == who | {"server": {"serverId": server_id}}
    assert await api.ask("POST", PATH, call | {"name": "nothing"}) == who
    assert await api.ask("POST", PATH.replace("wrk_1", "wrk_2"), call) == who
    await api.ask("DELETE", f"/api/auth/keys/{key['clientKeyId']}", status=204)
    assert await api.ask("POST", PATH, call) == {}


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)  # no database is asked
async def test_a_key_itself_is_not_taken(api: Replica) -> None:
    body = {"keyHash": "sp_sk_" + "0" * 64, "name": ""}
    answer = await api.client.post(PATH, json=body)
    assert (answer.status_code, "sp_sk_" in answer.text) == (400, False)
