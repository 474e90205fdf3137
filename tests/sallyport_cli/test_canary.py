import json
from pathlib import Path

import pytest

from sallyport.plan.codec import parse_plan
from sallyport_cli.canary import CANARY, TRUST, canary_plan, judge, send_canary
from sallyport_cli.finding import State

REAL, PLACEHOLDER = "canary-real", "canary-placeholder"
HEAD = b"GET /v1/canary HTTP/1.1\r\nHost: canary.sallyport.test\r\n"


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        (b"Authorization: Bearer canary-real\r\n\r\n", State.OK),
        (b"authorization: Bearer canary-real\r\n\r\n", State.OK),
        (b"Authorization: Bearer canary-placeholder\r\n\r\n", State.FAILED),
        (b"Authorization: Bearer canary-real\r\nX: canary-placeholder\r\n\r\n", State.FAILED),
        (b"Authorization: Bearer canary-real\r\nAuthorization: Bearer canary-real\r\n\r\n", State.FAILED),
        (b"Authorization: Bearer canary-real\r\nX-Copy: canary-real\r\n\r\n", State.FAILED),
        (b"Authorization: Basic canary-real\r\n\r\n", State.FAILED),
        (b"X-Api-Key: canary-real\r\n\r\n", State.FAILED),
        (b"\r\n", State.FAILED),
    ],
)
def test_only_the_real_credential_in_its_place_is_success(fields: bytes, state: State) -> None:
    finding = judge(HEAD + fields, REAL, PLACEHOLDER)
    assert finding.state is state
    assert REAL not in finding.seen


def test_an_origin_that_heard_nothing_is_a_failure() -> None:
    assert judge(b"", REAL, PLACEHOLDER).state is State.FAILED


def test_the_plan_is_valid() -> None:
    [route] = parse_plan(canary_plan(PLACEHOLDER)).egress_routes
    assert route.egress_rule_id == "egr_canary"


async def test_it_arrives_through_a_gateway_with_the_operators_settings(tmp_path: Path) -> None:
    config = tmp_path / "gateway.yaml"
    # An upstream proxy and a plan that is not there must not lead the canary astray.
    document = {"upstream": {"proxy": "http://192.0.2.1:1"}, "plans": ["none.json"], "timeouts": {"connect": "5s"}}
    config.write_text(json.dumps(document), encoding="utf-8")
    findings = await send_canary(config, {"PATH": "/usr/bin:/bin", "SALLYPORT_PLANS": "none"}, tmp_path)
    assert [(finding.check, finding.state) for finding in findings] == [(TRUST, State.OK), (CANARY, State.OK)]


async def test_a_gateway_that_does_not_start_is_told(tmp_path: Path) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text("limits: {head_bytes: 1}\n", encoding="utf-8")
    [finding] = await send_canary(config, {"PATH": "/usr/bin:/bin"}, tmp_path)
    assert (finding.check, finding.state) == (CANARY, State.FAILED)
    assert "/limits/head_bytes" in finding.remedy
