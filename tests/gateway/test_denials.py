"""The last denials: whose they are, what they say, that they are few, and that nothing secret is in one."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.audit_line import FIELDS, Record
from gateway.core.decision import Deny
from gateway.denials import MAX_BYTES, MAX_PATH, Denial, Denials
from sallyport.problem import Code
from tests.support.gateway_plans import SANDBOX
from tests.support.plan_documents import rule_document
from tests.support.stage import HOST, OK, URL, one_route, stage
from tests.support.until import until

pytestmark = pytest.mark.uvloop

KEY = "sk-in-a-query-5d1c"


def record(sandbox_id: str | None = "sbx_one", **members: object) -> Record:
    known: dict[str, object] = {"time": 1_800_000_000.25, "sandboxId": sandbox_id, "code": "denied_by_plan"}
    return tuple((known | members).get(name) for name in FIELDS)


def shown(found: Sequence[Denial]) -> list[dict[str, Any]]:
    return [json.loads(denial.document) for denial in found]


def paths(found: Sequence[Denial]) -> list[str]:
    return [document["path"] for document in shown(found)]


def test_the_oldest_go_first_of_each_and_of_all() -> None:
    denials = Denials(most_each=2, most=3)
    for number in range(4):
        denials.note(record(path=f"/{number}"), None)
    assert paths(denials.after("", "sbx_one")) == ["/2", "/3"]
    denials.note(record("sbx_two", path="/a"), None)
    denials.note(record("sbx_two", path="/b"), None)
    assert (paths(denials.after("", "sbx_one")), paths(denials.after("", "sbx_two"))) == (["/3"], ["/a", "/b"])
    denials.note(record("sbx_three", path="/c"), None)
    assert denials.after("", "sbx_one") == []
    assert paths(denials.after("")) == ["/a", "/b", "/c"]
    assert len(denials) == 3
    assert repr(denials).endswith(": 3 of 2 sandboxes>")


def test_one_place_is_enough_to_go_on_with() -> None:
    denials = Denials(most_each=1, most=1)
    for name in ("sbx_one", "sbx_one", "sbx_two", "sbx_one"):
        denials.note(record(name, path=f"/{name}"), None)
        assert paths(denials.after("")) == [f"/{name}"]


def test_nobody_s_are_not_kept_and_none_where_none_are_wanted() -> None:
    denials = Denials()
    denials.note(record(None), None)
    assert len(denials) == 0
    denials = Denials(most_each=0)
    denials.note(record(), None)
    assert len(denials) == 0


def test_a_cursor_is_where_one_goes_on() -> None:
    denials, other = Denials(), Denials()
    denials.note(record(path="/1"), None)
    place = denials.cursor()
    assert denials.after(place, "sbx_one") == []
    denials.note(record(path="/2"), None)
    denials.note(record("sbx_two", path="/3"), None)
    assert paths(denials.after(place)) == ["/2", "/3"]
    assert paths(denials.after(place, "sbx_one")) == ["/2"]
    assert paths(denials.after(f"{other.cursor(9)}.{place}", most=1)) == ["/3"]
    # Of the process before this one: everything is new.
    assert paths(denials.after(other.cursor(9))) == ["/1", "/2", "/3"]
    (first, *_) = denials.after("")
    assert paths(denials.after(denials.cursor(first.number), "sbx_one")) == ["/2"]


def test_what_a_peer_makes_long_or_strange_is_cut_and_shown() -> None:
    denials = Denials()
    denials.note(record(path="/" + "a" * 5000, method="GET\u202e"), None)
    denials.note(record(path=f"/x?key={KEY}"), None)
    long, query = shown(denials.after(""))
    assert long["path"] == "/" + "a" * (MAX_PATH - 1) + "…"
    assert long["method"] == "GET\\u202e"
    assert query["path"] == "/x"
    assert KEY not in str(query)


def test_a_nearest_route_that_is_too_long_keeps_its_name() -> None:
    nearest = {"egressRuleId": "r", "mismatch": ["path"], "expected": {"path": ["/" + "p" * 1000] * 8}}
    denials = Denials()
    deny = Deny(code=Code.DENIED_BY_PLAN, detail="no", hint="ask", nearest=nearest)
    denials.note(record(), deny)
    denials.note(record(), Deny(code=Code.DENIED_BY_PLAN, detail="no", nearest={"egressRuleId": "r"}))
    long, short = denials.after("")
    assert len(long.document) < MAX_BYTES
    assert json.loads(long.document)["nearest"] == {"egressRuleId": "r", "mismatch": ["path"]}
    assert json.loads(short.document)["nearest"] == {"egressRuleId": "r"}


async def test_a_denial_says_what_the_answer_and_the_audit_log_say(tmp_path: Path) -> None:
    route = one_route(match={"hosts": [HOST], "pathPrefixes": ["/v1"], "methods": ["GET"]})
    rules = [rule_document("no", "deny", "denied.test")]
    async with stage(tmp_path, routes=[route], rules=rules) as scene:
        await scene.warm_up()
        assert len(scene.gateway.parts.denials) == 0  # what is admitted leaves nothing here
        client = await scene.gateway.client()
        client.send(scene.gateway.request(f"http://denied.test/v2/a?key={KEY}", method="POST"))
        answer = json.loads((await client.answer("POST")).body)
        (entry,) = await scene.gateway.audit.until(1)
        (denial,) = shown(scene.gateway.parts.denials.after("", SANDBOX))
        assert KEY not in str(denial)
        for name in ("requestId", "organizationId", "sandboxId", "mode", "host", "port", "path", "status", "code"):
            assert denial[name] == entry[name]
        for name in ("detail", "hint", "nearest", "retryable", "requestId"):
            assert denial[name] == answer[name]
        assert (denial["method"], denial["source"], denial["outcome"]) == ("POST", "explicit", "denied")
        assert denial["egressRuleId"] == "no"
        assert denial["nearest"]["mismatch"] == ["host", "method"]
        assert denial["time"].endswith("Z")


async def test_a_tunnel_s_requests_and_connects_are_kept_alike(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        tunnel = await scene.gateway.tunnel()
        request = f"TRACE {URL} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
        assert (await tunnel.ask(request).answer("TRACE")).status == 405
        assert (await tunnel.connect(f"{HOST}:443", "passthrough; revision=1").answer("CONNECT")).status == 403
        found = shown(scene.gateway.parts.denials.after("", SANDBOX))
        assert [(each["method"], each["code"], each["source"]) for each in found] == [
            ("TRACE", "trace_refused", "tunnel"),
            ("CONNECT", "denied_by_plan", "tunnel"),
        ]
        assert "managed" in found[1]["detail"]


async def test_a_failure_and_a_handshake_are_denials_too(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        link.send(b"nonsense\r\n\r\n")
        assert (await client.answer()).status == 502
        tls = await scene.gateway.open_tunnel(f"{HOST}:443")
        tls.send(b"\x16\x03\x01\x00\x05nopes")
        await tls.gone()
        opaque = await scene.gateway.client()
        opaque.send(
            b"CONNECT nowhere.test:1 HTTP/1.1\r\nHost: nowhere.test:1\r\n%b\r\n\r\n" % scene.gateway.authorization
        )
        assert (await opaque.answer("CONNECT")).status == 502
        await until(lambda: len(scene.gateway.parts.denials) == 3)
        found = shown(scene.gateway.parts.denials.after("", SANDBOX))
        codes = [(each["code"], each["outcome"], each["retryable"]) for each in found]
        assert codes == [
            ("upstream_protocol_error", "failed", False),
            ("invalid_request", "denied", False),
            ("upstream_unreachable", "failed", True),
        ]
        assert found[2]["detail"] == "the destination could not be reached"


async def test_what_is_cut_is_a_denial_and_what_is_nobody_s_is_not(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene:
        client = await scene.gateway.client()
        client.send(b"GET http://api.test/ HTTP/1.1\r\nHost: api.test\r\n\r\n")
        assert (await client.answer()).status == 407
        assert len(scene.gateway.parts.denials) == 0
        client, link, _ = await scene.ask(scene.gateway.request(URL))
        link.send(OK[:-1])
        scene.gateway.gateway.revoke("sandbox", SANDBOX, 4_000_000_000.0)
        await client.gone()
        (denial,) = shown(scene.gateway.parts.denials.after("", SANDBOX))
        assert (denial["code"], denial["outcome"]) == ("authority_withdrawn", "cancelled")
