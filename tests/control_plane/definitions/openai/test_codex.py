"""Codex' file says what the binding says, and its models know their efforts."""

import tomllib

import pytest

from control_plane.definitions.contract import FormField
from control_plane.definitions.openai.codex import (
    EFFORTS,
    BindingConfig,
    artifact,
    config_toml,
    effort_issues,
    form_fields,
    runtime_client,
)


def config(**members: object) -> BindingConfig:
    return BindingConfig.model_validate(members)


def written(binding: BindingConfig) -> dict[str, object]:
    return tomllib.loads(config_toml(binding, base_url="https://api.example/v1", key_variable="A_KEY"))


def fields(value: dict[str, object], *, any_model: bool = False) -> dict[str, FormField]:
    return {field.name: field for field in form_fields(value, any_model=any_model)}


def test_a_provider_of_its_own_takes_the_key_from_the_environment() -> None:
    document = written(config())
    assert "model" not in document
    assert document["model_provider"] == "sallyport"
    assert document["model_providers"] == {
        "sallyport": {
            "name": "OpenAI",
            "base_url": "https://api.example/v1",
            "env_key": "A_KEY",
            "wire_api": "responses",
        }
    }


def test_the_model_stands_before_every_table() -> None:
    document = written(config(model="gpt-5.5", reasoningEffort="xhigh"))
    assert (document["model"], document["model_reasoning_effort"]) == ("gpt-5.5", "xhigh")


@pytest.mark.parametrize("model", EFFORTS)
def test_a_known_model_has_its_efforts_and_no_other(model: str) -> None:
    for effort in ("none", "minimal", "low", "medium", "high", "xhigh", "max", "ultra"):
        issues = effort_issues(config(model=model, reasoningEffort=effort))
        assert [issue.pointer for issue in issues] == ([] if effort in EFFORTS[model] else ["/reasoningEffort"])


def test_an_unknown_model_is_not_judged() -> None:
    assert effort_issues(config(model="gpt-9", reasoningEffort="minimal")) == []
    assert effort_issues(config(reasoningEffort="minimal")) == []
    assert effort_issues(config(model="gpt-5.5")) == []


def test_the_file_lies_where_codex_is_told_to_look() -> None:
    binding = config(directory="/srv/codex")
    assert artifact(binding)["env"] == {"CODEX_HOME": "/srv/codex"}
    client = runtime_client(binding, base_url="https://api.example/v1", key_variable="A_KEY")
    assert '"path": "/srv/codex/config.toml"' in str(client).replace("'", '"')


def test_the_form_shows_the_efforts_of_the_model_chosen() -> None:
    assert fields({"model": "gpt-5.5"})["reasoningEffort"].choices == EFFORTS["gpt-5.5"]
    assert "minimal" in (fields({})["reasoningEffort"].choices or ())
    assert fields({})["model"].choices == tuple(EFFORTS)
    assert fields({}, any_model=True)["model"].choices is None


@pytest.mark.parametrize(
    ("source", "hidden"),
    [
        ("npm", set()),
        ("image", {"version"}),
        ("none", {"version", "model", "reasoningEffort", "directory"}),
    ],
)
def test_the_form_hides_what_plays_no_part(source: str, hidden: set[str]) -> None:
    assert {name for name, field in fields({"codex": source}).items() if field.hidden} == hidden
