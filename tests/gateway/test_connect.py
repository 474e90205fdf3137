"""A CONNECT is admitted once, and the answer to a refused one is the same on every listener."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.gateway_plans import denied, plan, route
from tests.support.in_process import GatewayInProcess, in_process_gateway, proxy_token
from tests.support.raw_end import RawEnd

pytestmark = pytest.mark.uvloop

PLAN = plan([route("r", ["api.test"], "con_one")], [denied("no", "no.test", "not here")], default="passthrough")


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[GatewayInProcess]:
    async with in_process_gateway(tmp_path, plan=PLAN) as gateway:
        yield gateway


async def explicit(gateway: GatewayInProcess, request: bytes) -> RawEnd:
    client = await gateway.client()
    client.send(request.replace(b"\r\n\r\n", b"\r\n" + gateway.authorization + b"\r\n\r\n"))
    return client


async def tunnelled(gateway: GatewayInProcess, request: bytes) -> RawEnd:
    mode = b"passthrough" if b"no.test" in request else b"intercepted"
    client = await gateway.tunnel()
    return client.ask(request, f"{mode.decode()}; revision=1")


@pytest.mark.parametrize("way", [explicit, tunnelled])
@pytest.mark.parametrize(
    ("request_head", "status", "code"),
    [
        (b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n", 200, None),
        (b"CONNECT API.test.:443 HTTP/1.1\r\nHost: api.test\r\n\r\n", 200, None),
        (b"CONNECT api.test:443 HTTP/1.0\r\n\r\n", 200, None),  # S4: Python 3.11 sends it
        (b"CONNECT api.test:443 HTTP/1.1\r\n\r\n", 400, "invalid_request"),
        (b"CONNECT api.test:443 HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "invalid_request"),
        (b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:444\r\n\r\n", 421, "authority_mismatch"),
        (b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\nContent-Length: 1\r\n\r\n", 400, "invalid_request"),
        (b"CONNECT 0x7f.1:443 HTTP/1.1\r\nHost: 0x7f.1:443\r\n\r\n", 400, "invalid_request"),
        (b"CONNECT no.test:443 HTTP/1.1\r\nHost: no.test:443\r\n\r\n", 403, "denied_by_plan"),
    ],
)
async def test_both_ways_answer_alike(
    gateway: GatewayInProcess, way: object, request_head: bytes, status: int, code: str | None
) -> None:
    end = await (explicit if way is explicit else tunnelled)(gateway, request_head)
    if code is None:
        assert (await end.head()).startswith(b"HTTP/1.1 200 ")
        assert gateway.audit.entries == []
        return
    answer = await end.answer("CONNECT")
    assert (answer.status, json.loads(answer.body)["code"]) == (status, code)
    (record,) = await gateway.audit.until(1)
    source = "explicit" if way is explicit else "tunnel"
    assert (record["method"], record["decision"], record["source"]) == ("CONNECT", "deny", source)
    if status in (403, 421):
        assert record["port"] == 443
    if status == 403:
        assert (record["egressRuleId"], record["planRevision"]) == ("no", 1)


async def test_a_sandbox_without_a_plan_is_told_so(gateway: GatewayInProcess) -> None:
    gateway.token = proxy_token("sbx_two")
    end = await explicit(gateway, b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n")
    answer = await end.answer("CONNECT")
    assert (answer.status, answer.value("Retry-After")) == (503, "5")
