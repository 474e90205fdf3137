"""Resolution: every answer and every refusal of contracts section 4, and answers that are none (C4, C10, C11, C14)."""

import json
import traceback
from pathlib import Path

import pytest

from control_client.credentials import (
    AwsSession,
    CredentialQuestion,
    ResolvedValue,
    UnusableCredential,
    resolve_credential,
)
from control_client.errors import UNEXPECTED_ANSWER, ControlError
from sallyport.secret import Secret
from tests.support.control_sessions import control_session
from tests.support.fake_control import answer, refusal

PATH = "/internal/integration-credentials/resolve"
CANARY = "canary-0123456789"
QUESTION = CredentialQuestion("sbx_1", 3, "rule", "bnd_1", "con_1", "api_key", None, None)
VALUE = {"kind": "value", "value": CANARY, "version": "v1"}
SESSION = {
    "kind": "aws_session",
    "accessKeyId": "AKIA",
    "secretAccessKey": CANARY,
    "sessionToken": "session-token",
    "expiresAt": 1_900_000_000,
    "version": "v2",
}


async def test_a_value(tmp_path: Path) -> None:
    async with control_session(tmp_path) as (fake, session, _):
        fake.credentials["con_1"] = VALUE | {"expiresAt": 1_900_000_000}
        found = await resolve_credential(session, QUESTION)
        assert found == ResolvedValue(Secret(CANARY.encode()), 1_900_000_000, "v1")
        assert CANARY not in repr(found)
        fake.credentials["con_1"] = VALUE
        assert (await resolve_credential(session, QUESTION)).expires_at is None


async def test_an_aws_session(tmp_path: Path) -> None:
    async with control_session(tmp_path) as (fake, session, _):
        fake.credentials["con_1"] = SESSION
        found = await resolve_credential(session, QUESTION)
        assert found == AwsSession("AKIA", Secret(CANARY.encode()), Secret(b"session-token"), 1_900_000_000, "v2")
        assert CANARY not in repr(found)


async def test_keys_of_aws_that_do_not_end_have_no_token(tmp_path: Path) -> None:
    async with control_session(tmp_path) as (fake, session, _):
        kept = ("kind", "accessKeyId", "secretAccessKey", "version")
        fake.credentials["con_1"] = {name: SESSION[name] for name in kept}
        found = await resolve_credential(session, QUESTION)
        assert found == AwsSession("AKIA", Secret(CANARY.encode()), None, None, "v2")


async def test_the_whole_question_is_sent(tmp_path: Path) -> None:
    async with control_session(tmp_path) as (fake, session, _):
        fake.credentials["con_1"] = VALUE
        await resolve_credential(session, QUESTION)
        await resolve_credential(session, QUESTION._replace(slot_key="deploy", resolver_key="github"))
        plain, full = fake.bodies(PATH)
        assert full == plain | {"slotKey": "deploy", "resolverKey": "github"}
        assert plain == {
            "sandboxId": "sbx_1",
            "planRevision": 3,
            "egressRuleId": "rule",
            "bindingId": "bnd_1",
            "connectionId": "con_1",
            "secretType": "api_key",
        }


@pytest.mark.parametrize(
    ("status", "word", "temporary"),
    [
        (400, "invalid_request", False),
        (404, "sandbox_not_found", False),
        (403, "binding_not_in_plan", False),
        (404, "connection_not_found", False),
        (409, "connection_not_active", False),
        (404, "credential_not_found", False),
        (409, "ambiguous_credential", False),
        (503, "refresh_failed_temporary", True),
        (409, "refresh_failed_temporary", True),  # the word decides, not the status
        (502, "refresh_failed_permanent", False),
        (404, "resolver_not_found", False),
        (403, "unauthorized", True),
    ],
)
async def test_every_word_of_the_contract(tmp_path: Path, status: int, word: str, temporary: bool) -> None:
    async with control_session(tmp_path) as (fake, session, _):
        fake.misbehave(PATH, refusal(status, word))
        with pytest.raises(ControlError) as caught:
            await resolve_credential(session, QUESTION)
        assert (caught.value.code, caught.value.temporary) == (word, temporary)
        assert (caught.value.retry_after_seconds > 0) == temporary


async def test_a_word_of_nobody_says_nothing_of_the_credential(tmp_path: Path) -> None:
    """A value in hand survives it: only what the control plane says of a credential takes it away."""
    async with control_session(tmp_path) as (fake, session, _):
        fake.misbehave(PATH, refusal(404, "no_such_route"), refusal(503, "overloaded", Retry_After="9"))
        with pytest.raises(ControlError) as caught:
            await resolve_credential(session, QUESTION)
        assert (caught.value.code, caught.value.temporary) == (UNEXPECTED_ANSWER, True)
        with pytest.raises(ControlError) as caught:
            await resolve_credential(session, QUESTION)
        assert (caught.value.temporary, caught.value.retry_after_seconds) == (True, 9)


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"kind": "value", "version": "v1"},
        VALUE | {"kind": "other"},
        VALUE | {"value": 1},
        VALUE | {"value": [CANARY]},
        VALUE | {"value": "x" * 70_000},
        VALUE | {"version": ""},
        VALUE | {"version": 1},
        VALUE | {"expiresAt": "soon"},
        VALUE | {"expiresAt": 1_900_000_000_000},
        VALUE | {"expiresAt": -1},
        VALUE | {"expires_at": 1_900_000_000},
        SESSION | {"expiresAt": None},
        {name: value for name, value in SESSION.items() if name != "sessionToken"},
    ],
)
async def test_c11_garbage_is_no_credential_and_is_not_repeated(tmp_path: Path, document: object) -> None:
    async with control_session(tmp_path) as (fake, session, _):
        fake.misbehave(PATH, answer(200, json.dumps(document).encode()))
        with pytest.raises(ControlError) as caught:
            await resolve_credential(session, QUESTION)
        assert (caught.value.code, caught.value.temporary) == (UNEXPECTED_ANSWER, True)
        assert CANARY not in str(caught.value)


async def test_c11_a_huge_answer_is_not_read(tmp_path: Path) -> None:
    async with control_session(tmp_path) as (fake, session, _):
        fake.misbehave(PATH, answer(200, json.dumps(VALUE | {"value": "x" * 2_000_000}).encode()))
        with pytest.raises(ControlError, match="more than"):
            await resolve_credential(session, QUESTION)


@pytest.mark.parametrize("end", ["\r\nX-Evil: 1", "\n", "\0", "€", " "])
async def test_c4_a_value_that_cannot_stand_in_a_header(tmp_path: Path, end: str) -> None:
    async with control_session(tmp_path) as (fake, session, _):
        fake.credentials["con_1"] = VALUE | {"value": CANARY + end}
        with pytest.raises(UnusableCredential, match="it ") as caught:
            await resolve_credential(session, QUESTION)
        assert CANARY not in "".join(traceback.format_exception(caught.value))
