"""The control plane as a source of credentials, alone and behind the cache (contracts section 4)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.core.aws_keys import AwsKeys
from gateway.core.credential_cache import CredentialKey, ResolveRequest
from gateway.credentials import CredentialError, Credentials
from gateway.remote_credentials import RemoteCredentials
from sallyport.secret import Secret
from tests.support.control_stage import ControlStage, control_stage
from tests.support.fake_control import answer, hang, refusal

PATH = "/internal/integration-credentials/resolve"
KEY = CredentialKey("org_1", "sbx_1", "bnd_1", "con_1", "api_key", "slot", "resolver")
REQUEST = ResolveRequest(KEY, 3, "rule")
NOW = 1_750_000_000.0
VALUE = {"kind": "value", "value": "canary-value", "version": "v1"}


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[ControlStage]:
    async with control_stage(tmp_path) as stage:
        yield stage


def cached(stage: ControlStage, timeout_seconds: float = 5.0) -> Credentials:
    return Credentials(
        RemoteCredentials(stage.session),
        stage.tasks,
        max_entries=10,
        max_concurrent=16,
        max_each=4,
        timeout_seconds=timeout_seconds,
        now=lambda: NOW,
        random=lambda: 0.0,
        count=stage.metrics.credential_resolved,
    )


async def test_a_value_and_the_whole_question(stage: ControlStage) -> None:
    stage.control.credentials["con_1"] = VALUE | {"expiresAt": int(NOW) + 60}
    found = await RemoteCredentials(stage.session).resolve(REQUEST)
    assert (found.value, found.expires_at, found.version) == (Secret(b"canary-value"), NOW + 60, "v1")
    assert stage.control.bodies(PATH) == [
        {
            "sandboxId": "sbx_1",
            "planRevision": 3,
            "egressRuleId": "rule",
            "bindingId": "bnd_1",
            "connectionId": "con_1",
            "secretType": "api_key",
            "slotKey": "slot",
            "resolverKey": "resolver",
        }
    ]


@pytest.mark.parametrize(
    ("document", "code", "temporary"),
    [
        (VALUE | {"value": "canary\n"}, "credential_unusable", False),
        (
            {
                "kind": "aws_session",
                "accessKeyId": "A/../canary",
                "secretAccessKey": "canary",
                "sessionToken": "canary",
                "expiresAt": 1_900_000_000,
                "version": "v1",
            },
            "credential_unusable",
            False,
        ),
        ({"kind": "canary"}, "control_answer_unexpected", True),
    ],
)
async def test_what_cannot_be_used(
    stage: ControlStage, document: dict[str, object], code: str, temporary: bool
) -> None:
    stage.control.credentials["con_1"] = document
    with pytest.raises(CredentialError) as caught:
        await RemoteCredentials(stage.session).resolve(REQUEST)
    assert (caught.value.code, caught.value.temporary) == (code, temporary)
    assert "canary" not in str(caught.value)


async def test_keys_of_aws(stage: ControlStage) -> None:
    stage.control.credentials["con_1"] = {
        "kind": "aws_session",
        "accessKeyId": "ASIAEXAMPLE",
        "secretAccessKey": "canary-secret",
        "sessionToken": "canary-token",
        "expiresAt": 1_900_000_000,
        "version": "v1",
    }
    found = await RemoteCredentials(stage.session).resolve(REQUEST)
    assert found.value == AwsKeys("ASIAEXAMPLE", Secret(b"canary-secret"), Secret(b"canary-token"))
    assert (found.expires_at, found.version) == (1_900_000_000, "v1")
    assert "canary" not in repr(found.value)


async def test_all_who_wait_share_one_question(stage: ControlStage) -> None:
    stage.control.credentials["con_1"] = VALUE
    credentials = cached(stage)
    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(credentials.fetch(KEY, REQUEST))
    assert stage.control.count(PATH) == 1


async def test_a_passing_failure_is_tried_again_within_the_timeout(stage: ControlStage) -> None:
    stage.control.credentials["con_1"] = VALUE
    stage.control.misbehave(PATH, answer(502, b"nginx"), refusal(503, "refresh_failed_temporary"))
    assert (await cached(stage).fetch(KEY, REQUEST)).version == "v1"
    assert stage.control.count(PATH) == 3


async def test_a_pause_that_was_asked_for_is_the_sandboxs_and_not_ours(stage: ControlStage) -> None:
    stage.control.misbehave(PATH, refusal(503, "refresh_failed_temporary", Retry_After="30"))
    with pytest.raises(CredentialError) as caught:
        await cached(stage).fetch(KEY, REQUEST)
    assert (caught.value.temporary, caught.value.retry_after_seconds) == (True, 30)
    assert stage.control.count(PATH) == 1


async def test_c11_a_slow_control_plane_is_bounded(stage: ControlStage) -> None:
    stage.control.misbehave(PATH, hang)
    with pytest.raises(CredentialError) as caught:
        await cached(stage, timeout_seconds=0.05).fetch(KEY, REQUEST)
    assert (caught.value.code, caught.value.temporary) == ("resolution_timeout", True)


async def test_c10_a_value_that_is_over_is_none(stage: ControlStage) -> None:
    stage.control.credentials["con_1"] = VALUE | {"expiresAt": int(NOW)}
    with pytest.raises(CredentialError, match="credential_expired"):
        await cached(stage).fetch(KEY, REQUEST)
