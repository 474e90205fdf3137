"""The gateway's own answers, and that docs/errors.md tells the truth about each."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sallyport.problem import AuditCode, Code, Problem, proxy_status
from sallyport.secret import Secret

ERRORS_PAGE = Path(__file__).parents[2] / "docs" / "errors.md"

# Contracts section 9, as (status, wire code).
CONTRACT = {
    (400, "invalid_request"),
    (401, "authentication_required"),
    (403, "denied_by_plan"),
    (403, "cleartext_refused"),
    (403, "address_refused"),
    (405, "trace_refused"),
    (407, "authentication_required"),
    (408, "request_timeout"),
    (413, "body_too_large"),
    (421, "authority_mismatch"),
    (421, "stale_interception"),
    (429, "rate_limited"),
    (431, "head_too_large"),
    (502, "credential_unavailable"),
    (502, "upstream_unreachable"),
    (502, "upstream_protocol_error"),
    (503, "credential_temporarily_unavailable"),
    (503, "plan_unavailable"),
    (503, "draining"),
    (503, "overloaded"),
    (504, "upstream_timeout"),
    (505, "http_version"),
}

# RFC 9209 section 2.3.
PROXY_ERRORS = {
    "destination_unavailable",
    "destination_ip_prohibited",
    "http_request_error",
    "http_request_denied",
    "http_response_timeout",
    "http_protocol_error",
    "proxy_internal_response",
    "proxy_configuration_error",
}


def test_codes_are_those_of_the_contract() -> None:
    assert {(code.status, code.wire) for code in Code} == CONTRACT
    assert len(Code) == len(CONTRACT)
    assert {code.wire for code in AuditCode} == {"authority_withdrawn", "http2_unsupported", "sni_mismatch"}


def test_value_is_the_wire_word_save_for_the_407() -> None:
    assert Code.DENIED_BY_PLAN.value == "denied_by_plan"
    assert [code.name for code in Code if code.value != code.wire] == ["PROXY_AUTHENTICATION_REQUIRED"]
    assert all(code.name == code.value.upper() for code in Code)


def test_temporary_faults_and_no_others_are_retryable() -> None:
    assert {code.name for code in Code if code.retryable} == {
        "REQUEST_TIMEOUT",
        "STALE_INTERCEPTION",
        "RATE_LIMITED",
        "UPSTREAM_UNREACHABLE",
        "CREDENTIAL_TEMPORARILY_UNAVAILABLE",
        "PLAN_UNAVAILABLE",
        "DRAINING",
        "OVERLOADED",
        "UPSTREAM_TIMEOUT",
    }


@pytest.mark.parametrize("code", Code)
def test_proxy_status_names_a_registered_error(code: Code) -> None:
    assert code.proxy_error in PROXY_ERRORS
    assert proxy_status(code) == f'sallyport; error={code.proxy_error}; details="{code.wire}"'


def test_document_holds_what_is_known_and_nothing_null() -> None:
    problem = Problem(code=Code.DRAINING, detail="Going away.", request_id="req_1", retry_after_seconds=3)
    assert problem.to_json() == (
        b'{"type":"urn:sallyport:error:draining","title":"The gateway is going away","status":503,'
        b'"code":"draining","detail":"Going away.","requestId":"req_1","retryable":true}'
    )


def test_document_with_everything() -> None:
    nearest = MappingProxyType({"egressRuleId": "r1", "mismatch": ("path", "method")})
    problem = Problem(
        code=Code.PROXY_AUTHENTICATION_REQUIRED, detail="d", egress_rule_id="r1", nearest=nearest, hint="Use GET."
    )
    document = json.loads(problem.to_json())
    assert document["type"] == "urn:sallyport:error:authentication_required"
    assert document["status"] == 407
    assert document["egressRuleId"] == "r1"
    assert document["nearest"] == {"egressRuleId": "r1", "mismatch": ["path", "method"]}
    assert document["hint"] == "Use GET."


def test_document_never_fails_on_what_it_is_given() -> None:
    nearest: Mapping[str, object] = {"a": frozenset({"y", "x"}), "b": MappingProxyType({}), "c": Secret(b"canary")}
    document = json.loads(Problem(code=Code.DENIED_BY_PLAN, detail="d", nearest=nearest).to_json())
    assert document["nearest"] == {"a": ["x", "y"], "b": {}, "c": "<Secret>"}


@given(st.text(st.characters(), max_size=30))
def test_property_any_text_gives_ascii_json_that_reads_back(text: str) -> None:
    problem = Problem(code=Code.INVALID_REQUEST, detail=text, hint=text)
    encoded = problem.to_json()
    assert encoded.isascii()
    assert min(encoded) >= 0x20  # no control byte, so no line can be forged
    assert json.loads(encoded)["detail"] == text
    assert encoded == problem.to_json()


def test_errors_page_lists_exactly_the_codes() -> None:
    """docs/errors.md: one row a code, with the status, retryable and title of the code."""
    rows = re.findall(r"^\| (\d{3}) \| `([a-z0-9_]+)` \| (.+?) \| (yes|no) \| (.+?) \|$", ERRORS_PAGE.read_text(), re.M)
    assert [(int(status), wire) for status, wire, *_ in rows] == [(code.status, code.wire) for code in Code]
    for code, (_, _, meaning, retryable, action) in zip(Code, rows, strict=True):
        assert meaning.startswith(code.title + "."), code
        assert retryable == ("yes" if code.retryable else "no"), code
        assert action.strip(), code


def test_errors_page_lists_exactly_the_audit_codes() -> None:
    audit_only = ERRORS_PAGE.read_text().partition("## In the audit log only")[2]
    assert re.findall(r"^\| `([a-z0-9_]+)` \|", audit_only, re.M) == [code.wire for code in AuditCode]


@pytest.mark.parametrize("code", [*Code, *AuditCode], ids=lambda code: code.name)
def test_every_code_is_one_that_something_gives(code: Code | AuditCode) -> None:
    """A code that no path can lead to is an error that the page explains in vain."""
    named = re.compile(rf"\b{type(code).__name__}\.{code.name}\b")
    root = Path(__file__).parents[2]
    givers = [path for part in ("gateway", "sandboxd") for path in (root / part).rglob("*.py")]
    assert [path for path in givers if named.search(path.read_text(encoding="utf-8"))]
