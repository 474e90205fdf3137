"""`Idempotency-Key` over HTTP."""

import asyncio

import httpx
import pytest
import structlog

from control_plane import sandboxes
from tests.support.control_plane import ORGANIZATION, Replica

PATH = "/v1/sandboxes"
BODY = {"organizationId": ORGANIZATION}
KEY = {"Idempotency-Key": "once"}
ON_SQLITE = pytest.mark.parametrize("url", ["sqlite"], indirect=True)  # no other database behaves otherwise


async def count(api: Replica) -> int:
    return len((await api.ask("GET", PATH))["items"])


async def test_asked_again_nothing_is_done_twice(api: Replica) -> None:
    first = await api.client.post(PATH, json=BODY, headers=KEY)
    again = await api.client.post(PATH, json=BODY, headers=KEY)
    assert (again.status_code, again.content) == (first.status_code, first.content) == (201, first.content)
    assert again.headers["content-type"] == first.headers["content-type"]
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert ("idempotency-replayed" in first.headers, again.headers["idempotency-replayed"]) == (False, "true")
    assert await count(api) == 1
    other = await api.client.post(PATH, json=BODY | {"sandboxId": "sbx_1"}, headers=KEY)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_conflict")
    elsewhere = await api.client.post("/v1/sandbox/profiles", json=BODY, headers=KEY)
    assert elsewhere.status_code == 422
    async with api.caller("operator") as operator:
        assert (await operator.client.post(PATH, json=BODY, headers=KEY)).json() != first.json()


async def test_of_many_at_once_one_is_served(api: Replica) -> None:
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(api.client.post(PATH, json=BODY, headers=KEY)) for _ in range(6)]
    answers = [each.result() for each in asked]
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.content for answer in answers if answer.status_code == 201}) == 1
    assert all(answer.headers["retry-after"] == "1" for answer in answers if answer.status_code == 409)
    assert await count(api) == 1


@ON_SQLITE
async def test_what_was_refused_is_refused_again(api: Replica) -> None:
    async def faulty() -> httpx.Response:
        return await api.client.post(PATH, json={}, headers=KEY)

    first = await faulty()
    assert (first.status_code, (await faulty()).content) == (400, first.content)


@ON_SQLITE
async def test_a_fault_of_ours_is_not_kept(api: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patched, structlog.testing.capture_logs():
        patched.setattr(sandboxes, "create_sandbox", fail)
        assert (await api.client.post(PATH, json=BODY, headers=KEY)).status_code == 500
    assert (await api.client.post(PATH, json=BODY, headers=KEY)).status_code == 201


@ON_SQLITE
async def test_what_a_caller_may_not_ask_is_not_kept(api: Replica) -> None:
    async with api.caller("service") as service:
        for _ in range(2):
            answer = await service.client.post(PATH, json=BODY, headers=KEY)
            assert (answer.status_code, "idempotency-replayed" in answer.headers) == (403, False)
    answer = await api.client.post(PATH, json=BODY, headers=KEY | {"Authorization": "Bearer x"})
    assert answer.status_code == 401


@ON_SQLITE
@pytest.mark.parametrize("key", ["", "a b", "a" * 256, "\xe9"])
async def test_what_is_no_key(api: Replica, key: str) -> None:
    answer = await api.client.post(PATH, json=BODY, headers={b"Idempotency-Key": key.encode("latin-1")})
    assert (answer.status_code, answer.json()["issues"][0]["pointer"]) == (400, "Idempotency-Key")


@ON_SQLITE
async def test_other_requests_have_no_such_key(api: Replica) -> None:
    for _ in range(2):
        answer = await api.client.get(PATH, headers=KEY)
        assert (answer.status_code, "idempotency-replayed" in answer.headers) == (200, False)
