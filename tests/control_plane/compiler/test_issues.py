"""Every code of the compiler is explained."""

from pathlib import Path

import pytest

from control_plane.compiler.issues import CompileCode, issue

ROOT = Path(__file__).resolve().parents[3]
# Contracts section 5.
WORDS = {
    *("connection_mismatch", "target_disabled", "connection_not_active", "definition_not_found", "kind_mismatch"),
    *("invalid_target_config", "invalid_target_secrets", "invalid_binding_config", "route_conflict"),
    *("artifact_conflict", "mcp_conflict", "mcp_invalid_ref", "runtime_client_conflict"),
    *("runtime_client_invalid_ref", "agent_runtime_conflict", "agent_runtime_required"),
}


def test_every_word_of_the_contract_is_there() -> None:
    assert {code.value for code in CompileCode} >= WORDS


@pytest.mark.parametrize("code", list(CompileCode), ids=lambda code: code.value)
def test_every_code_is_documented(code: CompileCode) -> None:
    text = (ROOT / "docs/compiling.md").read_text(encoding="utf-8")
    assert f"| `{issue(code, '', '').code}` |" in text
