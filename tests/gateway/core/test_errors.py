"""Answers of the gateway's own, as a client reads them (contracts section 9)."""

import json
from collections.abc import Mapping

import pytest

from gateway.core import errors
from gateway.core.decision import Deny
from gateway.core.errors import refusal
from gateway.core.request_limit import Excess
from sallyport.problem import Code
from sallyport.wire.http1.codec import parse_response
from sallyport.wire.http1.scan import HEAD_END

CONNECTING = (Code.ADDRESS_REFUSED, Code.UPSTREAM_UNREACHABLE, Code.UPSTREAM_TIMEOUT, Code.OVERLOADED)


def fields_of(block: bytes) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {}
    for line in block.partition(HEAD_END)[0].split(b"\r\n")[1:]:
        name, _, value = line.decode("ascii").partition(": ")
        fields.setdefault(name, []).append(value)
    return fields


def read(block: bytes) -> tuple[int, dict[str, list[str]], Mapping[str, object]]:
    head, _, body = block.partition(HEAD_END)
    answer = parse_response(head)
    assert answer.body == len(body)
    return answer.status, fields_of(block), json.loads(body)


@pytest.mark.parametrize("code", list(Code))
def test_every_code_makes_a_whole_answer(code: Code) -> None:
    deny = Deny(code=code, detail="d", rule_id="r", hint="h", nearest={"mismatch": ["path"]})
    status, fields, document = read(refusal(deny, "req1", method="GET", close=True))
    assert status == code.status
    assert fields["X-Sallyport-Error"] == [code.wire]
    assert f'details="{code.wire}"' in fields["Proxy-Status"][0]
    assert fields["Content-Type"] == ["application/problem+json"]
    assert fields["Cache-Control"] == ["no-store"]
    assert fields["Connection"] == ["close"]
    assert document["code"] == code.wire
    assert document["egressRuleId"] == "r"
    assert (document["hint"], document["nearest"], document["requestId"]) == ("h", {"mismatch": ["path"]}, "req1")


def test_a_link_that_stays_open_is_not_called_closed() -> None:
    block = refusal(Deny(code=Code.DENIED_BY_PLAN, detail="d"), "req1", method="GET", close=False)
    assert "Connection" not in fields_of(block)
    assert "Retry-After" not in fields_of(block)


def test_head_gets_the_head_alone() -> None:
    deny = Deny(code=Code.DENIED_BY_PLAN, detail="d")
    whole = refusal(deny, "req1", method="GET", close=False)
    assert refusal(deny, "req1", method="HEAD", close=False) == whole[: whole.index(HEAD_END) + 4]


def test_407_asks_for_basic_first_and_nothing_else_asks() -> None:
    deny = Deny(code=Code.PROXY_AUTHENTICATION_REQUIRED, detail="d")
    _, fields, _ = read(refusal(deny, "req1", method="GET", close=True))
    assert [value.partition(" ")[0] for value in fields["Proxy-Authenticate"]] == ["Basic", "Bearer"]
    unauthorized = refusal(Deny(code=Code.AUTHENTICATION_REQUIRED, detail="d"), "req1", method="GET", close=True)
    assert "Proxy-Authenticate" not in fields_of(unauthorized)


def test_405_says_what_is_allowed() -> None:
    _, fields, _ = read(refusal(Deny(code=Code.TRACE_REFUSED, detail="d"), "req1", method="TRACE", close=True))
    assert "GET" in fields["Allow"][0]
    assert "TRACE" not in fields["Allow"][0]


def test_retry_after_where_waiting_helps() -> None:
    _, fields, _ = read(refusal(errors.no_plan(), "req1", method="GET", close=False))
    assert fields["Retry-After"] == ["5"]


def test_a_limit_that_passes_says_when_and_one_on_a_single_body_does_not() -> None:
    """docs/errors.md: 429 and 503 have Retry-After, 413 has none; no room for a body is not 413."""
    rate = Excess(retry_after_seconds=7, at_once=False)
    passing = (errors.rate_limited(rate, "r"), errors.sandbox_rate_limited(rate), errors.kept_bodies_are_full())
    for deny in (*passing, errors.memory_is_full(), errors.sandbox_is_full(), errors.gateway_is_full()):
        assert (deny.code.status, deny.code.retryable) in ((429, True), (503, True))
        assert "Retry-After" in fields_of(refusal(deny, "req1", method="POST", close=False))
    for deny in (errors.body_too_large(5, 5), errors.body_too_large(5, None), errors.signed_body_too_large(5)):
        assert (deny.code.status, deny.code.retryable) == (413, False)
        assert "Retry-After" not in fields_of(refusal(deny, "req1", method="POST", close=True))


def test_a_missing_credential_says_whether_to_try_again() -> None:
    temporary = errors.credential_missing("refresh_failed_temporary", True, 0, "r")
    assert (temporary.code, temporary.retry_after_seconds) == (Code.CREDENTIAL_TEMPORARILY_UNAVAILABLE, 1)
    assert errors.credential_missing("x", True, 7, "r").retry_after_seconds == 7
    permanent = errors.credential_missing("connection_not_active", False, 7, "r")
    assert (permanent.code, permanent.retry_after_seconds) == (Code.CREDENTIAL_UNAVAILABLE, None)
    assert "connection_not_active" in permanent.detail
    assert permanent.rule_id == temporary.rule_id == "r"


@pytest.mark.parametrize(
    ("deny", "code"),
    [
        (errors.no_plan(), Code.PLAN_UNAVAILABLE),
        (errors.sandbox_is_full(), Code.OVERLOADED),
        (errors.gateway_is_full(), Code.OVERLOADED),
        (errors.memory_is_full(), Code.OVERLOADED),
        (errors.of_another_organization(), Code.PROXY_AUTHENTICATION_REQUIRED),
        (errors.answer_unreadable("r"), Code.UPSTREAM_PROTOCOL_ERROR),
        (errors.unauthenticated("the request carries no proxy token"), Code.PROXY_AUTHENTICATION_REQUIRED),
        (errors.body_too_large(10, 10), Code.BODY_TOO_LARGE),
        (errors.signed_body_too_large(10), Code.BODY_TOO_LARGE),
        (errors.kept_bodies_are_full(), Code.OVERLOADED),
        (errors.body_not_kept("r"), Code.INVALID_REQUEST),
        (errors.payload_signed_in_parts(), Code.INVALID_REQUEST),
        (errors.too_many_parameters(1000), Code.INVALID_REQUEST),
        (errors.too_many_escapes(4096), Code.INVALID_REQUEST),
        (errors.too_many_segments(1024), Code.INVALID_REQUEST),
        (errors.rate_limited(Excess(3, False), "r"), Code.RATE_LIMITED),
        (errors.placeholder_left("r"), Code.CREDENTIAL_UNAVAILABLE),  # C5
        (errors.answer_not_whole("r"), Code.UPSTREAM_UNREACHABLE),  # A7: 502, retryable
        (errors.answer_not_http("r"), Code.UPSTREAM_PROTOCOL_ERROR),  # S11
        (errors.answer_late("r"), Code.UPSTREAM_TIMEOUT),
        *((errors.upstream_failed(code, "r"), code) for code in CONNECTING),
    ],
)
def test_what_went_wrong_has_its_code_and_a_sentence(deny: Deny, code: Code) -> None:
    assert deny.code is code
    assert len(deny.detail) > 20


def test_a_refusal_over_a_limit_says_whose_limit_it_is() -> None:
    assert "maxRequestBodyBytes" in (errors.body_too_large(8, 8).hint or "")
    for of_route in (None, 9):
        deny = errors.body_too_large(8, of_route)
        assert (deny.detail, deny.hint) == (
            "the gateway accepts request bodies up to 8 bytes",
            "the gateway's operator sets limits.request_body_bytes",
        )
    hints = [errors.rate_limited(Excess(3, at_once), "r").hint for at_once in (True, False)]
    assert [hint.split()[3] for hint in hints if hint is not None] == ["maxConcurrent", "requestsPerMinute"]
    for at_once, name in ((True, "sandbox_concurrent_requests"), (False, "sandbox_requests_per_minute")):
        deny = errors.sandbox_rate_limited(Excess(3, at_once))
        assert (deny.code, deny.retry_after_seconds) == (Code.RATE_LIMITED, 3)
        assert f"limits.{name}" in (deny.hint or "")
