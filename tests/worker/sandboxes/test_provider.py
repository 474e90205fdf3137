"""What a sandbox can be made of."""

from typing import Any

import pytest
from pydantic import ValidationError

from worker.sandboxes.provider import Definition, TunnelTokens

GOOD: dict[str, Any] = {"sandboxId": "sbx_one", "command": ["/bin/true"]}


def test_the_least_and_the_most() -> None:
    least = Definition.model_validate(GOOD)
    assert (least.provider, least.environment, least.image) == ("local", {}, None)
    most = Definition.model_validate(
        GOOD | {"provider": "docker", "image": "registry.test/agent:1", "environment": {"A_1": "x\ny"}}
    )
    assert Definition.model_validate_json(most.model_dump_json(by_alias=True)) == most


@pytest.mark.parametrize(
    "further",
    [
        {"sandboxId": "../one"},
        {"sandboxId": ".one"},
        {"sandboxId": ""},
        {"sandboxId": "a" * 129},
        {"command": []},
        {"command": ["a\0b"]},
        {"command": "true"},
        {"environment": {"A=B": "c"}},
        {"environment": {"": "c"}},
        {"environment": {"A": "\0"}},
        {"environment": {"A": 1}},
        {"provider": "other"},
        {"image": "--privileged"},
        {"image": "a b"},
        {"privileged": True},
    ],
)
def test_what_is_no_sandbox(further: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Definition.model_validate(GOOD | further)


def test_tokens_are_not_shown() -> None:
    assert "s3cr3t" not in repr(TunnelTokens(token="s3cr3t", renewal_token="s3cr3t"))
