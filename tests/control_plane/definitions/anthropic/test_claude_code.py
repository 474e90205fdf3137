"""Claude Code's files say what the binding says."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from control_plane.definitions.anthropic.claude_code import (
    MCP_CONFIG,
    BindingConfig,
    artifact,
    form_fields,
    runtime_client,
)

KEY = "sk-ant-api03-" + "0123456789" * 3


def files(**members: object) -> dict[str, Any]:
    client: Any = runtime_client(BindingConfig.model_validate(members), key_placeholder=KEY)
    return {file["path"]: json.loads(file["content"]) for file in client["setup"]["files"]}


def test_the_settings_name_the_model_where_there_is_one() -> None:
    assert files(model="opus", directory="/srv/c")["/srv/c/settings.json"]["model"] == "opus"
    assert "model" not in files(directory="/srv/c")["/srv/c/settings.json"]


def test_the_placeholder_is_approved_by_its_end() -> None:
    state = files(directory="/srv/c")["/srv/c/.claude.json"]
    assert state["customApiKeyResponses"]["approved"] == ["01234567890123456789"]
    assert state["mcpServers"] == {}


def test_the_servers_go_into_the_file_that_claude_code_reads() -> None:
    client: Any = runtime_client(BindingConfig(), key_placeholder=KEY)
    [path] = [file["path"] for file in client["setup"]["files"] if file["fileId"] == MCP_CONFIG.file_id]
    assert path == f"{BindingConfig().directory}/.claude.json"
    assert client["clientId"] == MCP_CONFIG.client_id
    assert artifact(BindingConfig())["env"] == {"CLAUDE_CONFIG_DIR": BindingConfig().directory}


@pytest.mark.parametrize("model", ["opus", "opus[1m]", "claude-opus-5-5", "anthropic/claude"])
def test_a_model_is_an_alias_or_a_name(model: str) -> None:
    assert BindingConfig.model_validate({"model": model}).model == model


@pytest.mark.parametrize("model", ["", "-p", "opus [1m]", "opus[2m]", "opus\n"])
def test_what_is_no_model_is_refused(model: str) -> None:
    with pytest.raises(ValidationError):
        BindingConfig.model_validate({"model": model})


@pytest.mark.parametrize(
    ("source", "hidden"), [("npm", set()), ("image", {"version"}), ("none", {"version", "model", "directory"})]
)
def test_the_form_hides_what_plays_no_part(source: str, hidden: set[str]) -> None:
    assert {field.name for field in form_fields({"claudeCode": source}) if field.hidden} == hidden
