from pathlib import Path

import pytest

from control_plane.refusals import ControlCode, FieldIssue, Refused, sandbox_not_found
from sallyport.problem import Code

ROOT = Path(__file__).resolve().parents[2]
# Contracts section 4; a gateway decides by these words.
RESOLVE_WORDS = {
    *("unauthorized", "invalid_request", "sandbox_not_found", "binding_not_in_plan", "connection_not_found"),
    *("connection_not_active", "credential_not_found", "ambiguous_credential", "refresh_failed_temporary"),
    *("refresh_failed_permanent", "resolver_not_found"),
}


def test_every_word_of_a_resolution_is_there_once() -> None:
    words = [code.wire for code in ControlCode]
    assert set(words) >= RESOLVE_WORDS
    assert len(words) == len(set(words))


@pytest.mark.parametrize("code", list(ControlCode), ids=lambda code: code.wire)
def test_a_word_that_the_gateway_uses_too_means_the_same(code: ControlCode) -> None:
    same = [each for each in Code if each.wire == code.wire]
    assert all((each.status, each.retryable) == (code.status, code.retryable) for each in same)


@pytest.mark.parametrize("code", list(ControlCode), ids=lambda code: code.wire)
def test_every_refusal_is_documented(code: ControlCode) -> None:
    text = (ROOT / "docs/control-plane.md").read_text(encoding="utf-8")
    assert f"| {code.status} | `{code.wire}` |" in text


def test_what_passes_by_itself_is_a_server_s_or_a_client_s_pace() -> None:
    assert {code.status for code in ControlCode if code.retryable} == {408, 409, 429, 500, 503}
    assert [code.wire for code in ControlCode if code.retryable and code.status == 409] == ["request_in_progress"]


def test_a_refusal_tells_its_word_and_keeps_its_issues() -> None:
    refused = Refused(ControlCode.INVALID_REQUEST, "2 issues", issues=[FieldIssue("malformed", "/a", "b")])
    assert str(refused) == "invalid_request: 2 issues"
    assert refused.issues[0].pointer == "/a"
    assert sandbox_not_found().code is ControlCode.SANDBOX_NOT_FOUND
