"""What is written down of an exchange, name by name (egress case C14: never a query, never a secret)."""

from pathlib import Path

import pytest

from gateway.audit_line import FIELDS
from gateway.core.decision import Mode
from gateway.core.route_table import RouteTable
from gateway.record import MAX_METHOD, MAX_PATH, stream_record
from sallyport.claims import Claims
from sallyport.destination import Destination
from tests.support.gateway_plans import ORGANIZATION, SANDBOX, plan, route
from tests.support.in_process import GatewayInProcess, in_process_gateway
from tests.support.plan_documents import plan_of
from tests.support.raw_end import raw_origin

pytestmark = pytest.mark.uvloop

CANARY = "canary-5d41402abc4b"
PLAN = plan([route("api", ["api.test"], "con_one", allowCleartext=True)])


async def exchange(gateway: GatewayInProcess, target: str, *lines: bytes, body: bytes = b"") -> None:
    client = await gateway.client()
    client.send(gateway.request(target, *lines, method="POST" if body else "GET", body=body))
    await client.answer()


async def test_c14_an_injected_exchange(tmp_path: Path) -> None:
    async with (
        raw_origin() as origin,
        in_process_gateway(
            tmp_path, plan=PLAN, credentials={"con_one": CANARY}, connect_to={"api.test:80": origin.port}
        ) as gateway,
    ):
        client = await gateway.client()
        cookie = f"Cookie: {CANARY}".encode()
        client.send(
            gateway.request(
                f"http://api.test/%76/x?key={CANARY}", cookie, b"Content-Length: 5", method="POST", body=b"hello"
            )
        )
        link = await origin.link()
        await link.head()
        assert await link.exactly(5) == b"hello"
        link.send(b"HTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\nyes")
        assert (await client.answer()).status == 201
        (record,) = await gateway.audit.until(1)
    assert tuple(record) == FIELDS
    assert record["time"] is not None
    assert record.pop("durationMs") is not None
    assert CANARY not in repr(record)
    expected = {
        "organizationId": ORGANIZATION,
        "sandboxId": SANDBOX,
        "source": "explicit",
        "mode": "plain",
        "method": "POST",
        "scheme": "http",
        "host": "api.test",
        "port": 80,
        "path": "/v/x",
        "decision": "inject",
        "egressRuleId": "api",
        "bindingId": "bnd_api",
        "connectionId": "con_one",
        "planRevision": 1,
        "status": 201,
        "code": None,
        "bytesUp": 5,
        "bytesDown": 3,
        "upstreamAddress": f"127.0.0.1:{origin.port}",
        "linkReused": False,
        "scrubbed": None,
    }
    assert {name: record[name] for name in expected} == expected
    versions = record["credentialVersion"]
    assert isinstance(versions, tuple)
    assert len(versions) == 1


async def test_c14_a_request_that_was_never_sent(tmp_path: Path) -> None:
    async with in_process_gateway(tmp_path, plan=PLAN) as gateway:
        await exchange(gateway, f"http://other.test/x?key={CANARY}")
        (record,) = await gateway.audit.until(1)
    assert CANARY not in repr(record)
    expected = {
        "host": "other.test",
        "path": "/x",
        "decision": "deny",
        "egressRuleId": None,
        "bindingId": None,
        "connectionId": None,
        "planRevision": 1,
        "credentialVersion": None,
        "status": 403,
        "code": "denied_by_plan",
        "upstreamAddress": None,
        "linkReused": None,
    }
    assert {name: record[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("method", "path", "kept_method", "kept_path"),
    [
        ("GET", "/" + "a" * (MAX_PATH - 4), "GET", "/" + "a" * (MAX_PATH - 4)),
        ("GET", "/" + "a" * (MAX_PATH - 1), "GET", "/" + "a" * (MAX_PATH - 1)),
        ("GET", "/" + "a" * 30_000, "GET", "/" + "a" * (MAX_PATH - 1) + "…"),
        ("M" * 30_000, "/x", "M" * MAX_METHOD + "…", "/x"),
    ],
    ids=["short", "as long as is kept", "a long path", "a long method"],
)
async def test_s10_what_waits_for_a_stuck_sink_is_not_as_long_as_a_sandbox_likes(
    tmp_path: Path, method: str, path: str, kept_method: str, kept_path: str
) -> None:
    async with in_process_gateway(tmp_path, plan=PLAN) as gateway:
        client = await gateway.client()
        client.send(gateway.request(f"http://other.test{path}", method=method))
        assert (await client.answer()).status == 403
        (record,) = await gateway.audit.until(1)
    assert (record["method"], record["path"]) == (kept_method, kept_path)


async def test_a_request_of_nobody_to_nowhere(tmp_path: Path) -> None:
    async with in_process_gateway(tmp_path) as gateway:
        client = await gateway.client()
        client.send(b"GET http://api.test/ HTTP/1.1\r\nHost: api.test\r\n\r\n")
        assert (await client.answer()).status == 407
        (record,) = await gateway.audit.until(1)
    for name in ("organizationId", "sandboxId", "scheme", "host", "port", "planRevision", "egressRuleId"):
        assert record[name] is None
    assert record["code"] == "authentication_required"


CLAIMS = Claims(
    issuer="i",
    audience="a",
    sandbox_id="sbx_one",
    organization_id="org_one",
    lineage="l",
    issued_at=0,
    not_before=0,
    expires_at=1,
    token_id="t",
)


async def test_a_connect_that_never_became_an_exchange(tmp_path: Path) -> None:
    async with in_process_gateway(tmp_path) as gateway:
        whole = stream_record(
            gateway.parts,
            source="explicit",
            mode=Mode.PASSTHROUGH,
            claims=CLAIMS,
            destination=Destination("https", "a.example", 443),
            table=RouteTable(plan_of()),
            fields={"decision": "deny", "status": 403, "code": "denied_by_plan"},
        )
        least = stream_record(
            gateway.parts, source="explicit", mode=Mode.PLAIN, claims=None, destination=None, table=None, fields={}
        )
    known = {name: value for name, value in zip(FIELDS, whole, strict=True) if value is not None}
    assert known.pop("time") == gateway.parts.clock.wall
    assert known.pop("requestId")
    assert known == {
        "organizationId": "org_one",
        "sandboxId": "sbx_one",
        "source": "explicit",
        "mode": "passthrough",
        "method": "CONNECT",
        "scheme": "https",
        "host": "a.example",
        "port": 443,
        "decision": "deny",
        "planRevision": 1,
        "status": 403,
        "code": "denied_by_plan",
    }
    assert [name for name, value in zip(FIELDS, least, strict=True) if value is not None] == [
        "time",
        "requestId",
        "source",
        "mode",
        "method",
    ]
