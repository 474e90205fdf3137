"""The admin listener over real HTTP: every status of contracts section 10, and who may not use it."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from structlog.testing import capture_logs

from gateway.admin import bodies
from gateway.admin.refusals import AdminCode
from gateway.admin.surface import AdminListenError, AdminParts, build_admin, start_admin
from gateway.core.credential_cache import RevocationsFull
from gateway.metrics import Metrics
from gateway.plan_holder import PlanHolder
from gateway.revocations import RevocationLimitError
from sallyport.plan.codec import plan_digest, seal
from tests.support.plan_documents import plan_document, route_document

ROOT = Path(__file__).resolve().parents[3]
PLAN = "/v1/sandboxes/sbx_one/plan"
LIMIT = 64 * 1024

type Client = TestClient[web.Request, web.Application]


@dataclasses.dataclass(kw_only=True)
class Orders:
    """What reached the gateway behind the listener."""

    reasons: list[str] = dataclasses.field(default_factory=list)
    invalidated: list[tuple[str, str | None]] = dataclasses.field(default_factory=list)
    revoked: list[tuple[str, str, float]] = dataclasses.field(default_factory=list)
    organizations: list[str | None] = dataclasses.field(default_factory=list)  # of whom each of these two was
    drains: int = 0
    failure: Exception | None = None

    async def invalidate(self, kind: str, identifier: str | None, organization_id: str | None) -> int:
        self.organizations.append(organization_id)
        self.invalidated.append((kind, identifier))
        return 3

    async def revoke(self, kind: str, identifier: str, until: float, organization_id: str | None) -> int:
        if self.failure is not None:
            raise self.failure
        self.organizations.append(organization_id)
        self.revoked.append((kind, identifier, until))
        return 2

    def drain(self) -> None:
        self.drains += 1


@pytest.fixture
def orders() -> Orders:
    return Orders()


@pytest.fixture
def parts(orders: Orders) -> AdminParts:
    return AdminParts(
        plans=PlanHolder(max_sandboxes=2, max_plan_bytes=LIMIT),
        metrics=Metrics(),
        not_ready=lambda: orders.reasons,
        invalidate=orders.invalidate,
        revoke=orders.revoke,
        drain=orders.drain,
        drain_seconds=30.0,
        max_plan_bytes=LIMIT,
    )


@pytest.fixture
async def client(parts: AdminParts) -> AsyncIterator[Client]:
    async with TestClient(TestServer(build_admin(parts))) as client:
        yield client


def body(revision: int = 1, **fields: object) -> bytes:
    return seal({**plan_document([route_document()], revision=revision), **fields})


async def problem(answer: object, status: int, code: str) -> dict[str, object]:
    # TestClient's answers have no public name of their own.
    assert answer.status == status  # type: ignore[attr-defined]
    assert answer.content_type == "application/problem+json"  # type: ignore[attr-defined]
    assert answer.headers["X-Sallyport-Error"] == code  # type: ignore[attr-defined]
    document: dict[str, object] = await answer.json(content_type=None)  # type: ignore[attr-defined]
    assert (document["status"], document["code"]) == (status, code)
    assert document["type"] == f"urn:sallyport:error:{code}"
    assert document.keys() >= {"title", "detail", "requestId", "retryable"}
    return document


# Health, readiness, metrics --------------------------------------------------------------------------


async def test_health(client: Client) -> None:
    answer = await client.get("/healthz")
    assert (answer.status, await answer.json()) == (200, {"status": "ok"})


async def test_readiness_says_what_is_missing(client: Client, orders: Orders) -> None:
    orders.reasons[:] = ["draining"]
    answer = await client.get("/readyz")
    assert (answer.status, await answer.json()) == (503, {"status": "not_ready", "reasons": ["draining"]})
    orders.reasons.clear()
    answer = await client.get("/readyz")
    assert (answer.status, await answer.json()) == (200, {"status": "ready"})


async def test_metrics(client: Client, parts: AdminParts) -> None:
    parts.metrics.denied("denied_by_plan")
    answer = await client.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    assert 'sallyport_denied_total{code="denied_by_plan"} 1.0' in await answer.text()


# Plans -----------------------------------------------------------------------------------------------


def applied(parts: AdminParts, result: str) -> bool:
    return f'sallyport_plan_apply_total{{result="{result}"}} 1.0' in parts.metrics.render().decode()


async def test_a_plan_is_put_read_and_deleted(client: Client, parts: AdminParts) -> None:
    answer = await client.put(PLAN, data=body())
    digest = json.loads(body())["digest"]
    expected = {"sandboxId": "sbx_one", "revision": 1, "digest": digest, "changed": True}
    assert (answer.status, await answer.json()) == (200, expected)
    assert applied(parts, "applied")

    answer = await client.get(PLAN)
    assert answer.headers["ETag"] == f'"{digest}"'
    assert await answer.read() == body()

    answer = await client.delete(PLAN)
    assert (answer.status, await answer.read()) == (204, b"")
    assert parts.plans.table("sbx_one") is None
    assert applied(parts, "removed")


async def test_what_is_read_back_has_the_digest_it_came_with(client: Client) -> None:
    route = route_document(
        match={"hosts": ["*.Example.com"], "ports": [8443], "pathPrefixes": ["/v1"]},
        authInjection={"type": "header", "header": "x-api-key", "prefix": "Key "},
        additionalHeaders={"X-One": "1"},
        placeholders=[{"value": "sk-placeholder", "in": ["header"]}],
        limits={"maxRequestBodyBytes": 1000},
    )
    document = plan_document([route])
    spaced = json.dumps(json.loads(seal(document)), indent=2).encode()
    assert (await client.put(PLAN, data=spaced)).status == 200
    answer = await client.get(PLAN)
    assert plan_digest(await answer.json()) == plan_digest(document)


async def test_the_same_plan_again_is_fine(client: Client, parts: AdminParts) -> None:
    await client.put(PLAN, data=body())
    answer = await client.put(PLAN, data=body())
    assert (answer.status, (await answer.json())["changed"]) == (200, False)
    assert applied(parts, "unchanged")


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (body(4), "older"),
        (body(5, version=2), "another digest"),
        (body(6, sandboxId="sbx_two"), "for sandbox sbx_two"),
    ],
)
async def test_409_what_may_not_replace_a_plan(client: Client, parts: AdminParts, document: bytes, told: str) -> None:
    await client.put(PLAN, data=body(5))
    assert told in str((await problem(await client.put(PLAN, data=document), 409, "plan_conflict"))["detail"])
    table = parts.plans.table("sbx_one")
    assert table is not None
    assert table.revision == 5
    assert applied(parts, "conflict")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", body(1, unknown=1, version=0)])
async def test_422_an_invalid_plan_lists_its_issues_and_changes_nothing(
    client: Client, parts: AdminParts, content: bytes
) -> None:
    await client.put(PLAN, data=body())
    document = await problem(await client.put(PLAN, data=content), 422, "invalid_plan")
    issues = document["issues"]
    assert isinstance(issues, list)
    assert issues
    assert all(issue.keys() == {"code", "pointer", "message"} for issue in issues)
    if b"unknown" in content:
        assert {issue["pointer"] for issue in issues} == {"/unknown", "/version"}
    assert parts.plans.table("sbx_one") is not None
    assert applied(parts, "invalid")


async def test_413_a_plan_that_is_too_large(client: Client, parts: AdminParts) -> None:
    answer = await client.put(PLAN, data=b" " * (LIMIT + 1))
    assert str(LIMIT) in str((await problem(answer, 413, "body_too_large"))["detail"])
    assert applied(parts, "refused")


async def test_413_a_plan_with_too_many_routes(parts: AdminParts) -> None:
    document = plan_document([route_document(f"r{number}") for number in range(1001)])
    parts = dataclasses.replace(parts, max_plan_bytes=2 * 1024 * 1024)
    async with TestClient(TestServer(build_admin(parts))) as client:
        answer = await client.put(PLAN, data=seal(document))
        assert "issues" in await problem(answer, 413, "body_too_large")


async def test_503_one_sandbox_too_many(client: Client, parts: AdminParts) -> None:
    for name in ("sbx_a", "sbx_b"):
        assert (await client.put(f"/v1/sandboxes/{name}/plan", data=body(sandboxId=name))).status == 200
    await problem(await client.put(PLAN, data=body()), 503, "overloaded")
    assert applied(parts, "refused")


async def test_404_without_a_plan(client: Client) -> None:
    await problem(await client.get(PLAN), 404, "not_found")
    await problem(await client.delete(PLAN), 404, "not_found")


async def test_a_body_that_stops_is_given_up(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.01)
    never = asyncio.Event()

    async def stall() -> AsyncIterator[bytes]:
        yield b"{"
        await never.wait()

    await problem(await client.put(PLAN, data=stall()), 408, "request_timeout")


# Orders ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "reached"),
    [
        ({"kind": "connection", "id": "con_1"}, ("connection", "con_1")),
        ({"kind": "binding", "id": "bnd_1"}, ("binding", "bnd_1")),
        ({"kind": "organization", "id": "org_1"}, ("organization", "org_1")),
        ({"kind": "all"}, ("all", None)),
    ],
)
async def test_credentials_are_invalidated(
    client: Client, orders: Orders, order: object, reached: tuple[str, str | None]
) -> None:
    answer = await client.post("/v1/credentials/invalidate", json=order)
    assert (answer.status, await answer.json()) == (200, {"invalidated": 3})
    assert orders.invalidated == [reached]


@pytest.mark.parametrize("kind", ["jti", "sid", "sandbox", "connection", "binding"])
async def test_tokens_are_revoked(client: Client, orders: Orders, kind: str) -> None:
    with capture_logs() as logs:
        answer = await client.post("/v1/tokens/revoke", json={"kind": kind, "id": "x", "until": 1_900_000_000})
    assert (answer.status, await answer.json()) == (200, {"streamsEnded": 2})
    assert orders.revoked == [(kind, "x", 1_900_000_000.0)]
    assert logs[0]["event"] == "revoked"


@pytest.mark.parametrize("kind", ["connection", "binding"])
async def test_orders_about_one_organizations_connection_or_binding(client: Client, orders: Orders, kind: str) -> None:
    for whose in ({"organizationId": "org_one"}, {"organizationId": None}, {}):
        order = {"kind": kind, "id": "x", **whose}
        assert (await client.post("/v1/credentials/invalidate", json=order)).status == 200
        assert (await client.post("/v1/tokens/revoke", json={**order, "until": 1_900_000_000})).status == 200
    assert orders.organizations == ["org_one", "org_one", None, None, None, None]


@pytest.mark.parametrize("failure", [RevocationLimitError("full"), RevocationsFull("full")])
async def test_a_revocation_that_was_not_noted_is_told(client: Client, orders: Orders, failure: Exception) -> None:
    orders.failure = failure
    answer = await client.post("/v1/tokens/revoke", json={"kind": "jti", "id": "x", "until": 1_900_000_000})
    await problem(answer, 503, "overloaded")


@pytest.mark.parametrize(
    ("path", "content", "told"),
    [
        ("credentials/invalidate", "", "/kind"),
        ("credentials/invalidate", "[]", "not a JSON object"),
        ("credentials/invalidate", "{", "not a JSON object"),
        ("credentials/invalidate", "[" * 10_000, "not a JSON object"),
        ("credentials/invalidate", '{"kind":"all","kind":"all"}', "not a JSON object"),
        ("credentials/invalidate", '{"kind":"all","id":"x"}', "/id"),
        ("credentials/invalidate", '{"kind":"connection"}', "/id"),
        ("credentials/invalidate", '{"kind":"connection","id":"a\\u0000b"}', "/id"),
        ("credentials/invalidate", '{"kind":"sandbox","id":"x"}', "/kind: write one of connection"),
        ("credentials/invalidate", '{"kind":"all","extra":1}', "/extra"),
        ("credentials/invalidate", '{"kind":"all","organizationId":"x"}', "/organizationId"),
        ("credentials/invalidate", '{"kind":"organization","id":"x","organizationId":"x"}', "/organizationId"),
        ("credentials/invalidate", '{"kind":"binding","id":"x","organizationId":1}', "/organizationId"),
        ("tokens/revoke", '{"kind":"sandbox","id":"x","until":1,"organizationId":"x"}', "/organizationId"),
        ("tokens/revoke", '{"kind":"connection","id":"x","until":1,"organizationId":""}', "/organizationId"),
        ("tokens/revoke", '{"kind":"jti","id":"x"}', "/until"),
        ("tokens/revoke", '{"kind":"jti","id":"x","until":"soon"}', "/until"),
        ("tokens/revoke", '{"kind":"jti","id":"x","until":true}', "/until"),
        ("tokens/revoke", '{"kind":"jti","id":"x","until":NaN}', "/until"),
        ("tokens/revoke", '{"kind":"jti","id":"x","until":1e400}', "/until"),
        ("tokens/revoke", '{"kind":"all","id":"x","until":1}', "/kind"),
        ("drain", '{"now":true}', "/now"),
    ],
)
async def test_400_an_order_that_is_wrong(client: Client, orders: Orders, path: str, content: str, told: str) -> None:
    answer = await client.post(f"/v1/{path}", data=content)
    assert told in str((await problem(answer, 400, "invalid_request"))["detail"])
    assert orders == Orders()


async def test_413_an_order_that_is_too_large(client: Client) -> None:
    await problem(await client.post("/v1/drain", data=b" " * 16385), 413, "body_too_large")


async def test_drain(client: Client, orders: Orders) -> None:
    answer = await client.post("/v1/drain")
    assert (answer.status, await answer.json()) == (202, {"status": "draining", "deadlineSeconds": 30.0})
    assert orders.drains == 1


# Who may not -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:9900", "127.0.0.1:1", "127.9.9.9", "[::1]:9900", "LOCALHOST."]
)
async def test_loopback_names_are_answered(client: Client, host: str) -> None:
    assert (await client.get("/healthz", headers={"Host": host})).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "rebound.example.com",
        "rebound.example.com:9900",
        "10.0.0.1",
        "localhost.example.com",
        "0x7f.1",
        "a@localhost",
        "",
    ],
)
async def test_421_another_name_that_leads_here_is_refused(client: Client, orders: Orders, host: str) -> None:
    await problem(await client.post("/v1/drain", headers={"Host": host}), 421, "authority_mismatch")
    assert orders.drains == 0


@pytest.mark.parametrize("origin", ["https://example.com", "null", "http://localhost:9900"])
async def test_403_web_pages_are_refused(client: Client, orders: Orders, origin: str) -> None:
    answer = await client.post("/v1/drain", headers={"Origin": origin})
    await problem(answer, 403, "browser_refused")
    assert orders.drains == 0


async def test_404_and_405(client: Client) -> None:
    await problem(await client.get("/nothing"), 404, "not_found")
    answer = await client.post(PLAN)
    await problem(answer, 405, "method_not_allowed")
    assert answer.headers["Allow"] == "DELETE, GET, HEAD, PUT"


async def test_500_our_own_bug_tells_nothing(client: Client, orders: Orders) -> None:
    orders.failure = RuntimeError("canary")
    with capture_logs() as logs:
        answer = await client.post("/v1/tokens/revoke", json={"kind": "jti", "id": "x", "until": 1_900_000_000})
    assert "canary" not in await answer.text()
    await problem(answer, 500, "internal_error")
    assert logs[0]["event"] == "admin_request_failed"


# Starting --------------------------------------------------------------------------------------------


async def test_start_serves_until_it_is_cleaned_up(parts: AdminParts) -> None:
    runner = await start_admin(build_admin(parts), "127.0.0.1", 0)
    host, port = runner.addresses[0][:2]
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
    await reader.read()
    writer.close()
    await writer.wait_closed()
    await runner.cleanup()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(host, port)


async def test_a_taken_port_says_what_to_do(parts: AdminParts) -> None:
    runner = await start_admin(build_admin(parts), "127.0.0.1", 0)
    port = runner.addresses[0][1]
    with pytest.raises(AdminListenError, match="stop what uses it, or choose another port") as refused:
        await start_admin(build_admin(parts), "127.0.0.1", port)
    assert f"127.0.0.1:{port}" in str(refused.value)
    await runner.cleanup()


def test_every_route_and_code_is_documented() -> None:
    text = (ROOT / "docs/operations/README.md").read_text(encoding="utf-8")
    for code in AdminCode:
        assert f"`{code.wire}`" in text
    for path in ("/healthz", "/readyz", "/metrics", "/v1/sandboxes/{id}/plan", "/v1/credentials/invalidate"):
        assert path in text
    for path in ("/v1/tokens/revoke", "/v1/drain", "/v1/sandboxes`", "/v1/sandboxes/{id}/setup"):
        assert path in text
    for path in ("/v1/sandboxes/{id}/endpoints/{clientId}/{endpointKey}", "/v1/sandboxes/{id}/mcp/{serverId}"):
        assert path in text
