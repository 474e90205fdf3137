"""Credential resolution (contracts section 4): one question, one credential or one word why there is none.

What comes back is read strictly and goes straight into `Secret`; no error, log or repr holds any part of it (C11, C14).
"""

from typing import Final, NamedTuple

from control_client.errors import ControlError, unexpected
from control_client.members import Members, read_object
from control_client.session import ControlSession
from sallyport.secret import Secret, why_unusable

# A credential is at most a few kilobytes; JSON escapes may sextuple it.
MAX_VALUE_TEXT: Final = 64 * 1024
MAX_ANSWER_BYTES: Final = 512 * 1024

# Every word of contracts section 4, and whether asking again may help. An `unauthorized` gateway is the operator's to
# repair, and nothing is known of the credential meanwhile.
_TEMPORARY: Final = {
    "unauthorized": True,
    "invalid_request": False,
    "sandbox_not_found": False,
    "binding_not_in_plan": False,
    "connection_not_found": False,
    "connection_not_active": False,
    "credential_not_found": False,
    "ambiguous_credential": False,
    "refresh_failed_temporary": True,
    "refresh_failed_permanent": False,
    "resolver_not_found": False,
}


class CredentialQuestion(NamedTuple):
    """What is needed, and where in which plan."""

    sandbox_id: str
    plan_revision: int
    egress_rule_id: str
    binding_id: str
    connection_id: str
    secret_type: str
    slot_key: str | None
    resolver_key: str | None


class ResolvedValue(NamedTuple):
    """One secret that can stand in a header, its end in unix seconds if it has one, and the name of its version."""

    value: Secret
    expires_at: int | None
    version: str


class AwsSession(NamedTuple):
    """Keys of AWS: those of a session, or ones that do not end and have no token."""

    access_key_id: str
    secret_access_key: Secret
    session_token: Secret | None
    expires_at: int | None
    version: str


class UnusableCredential(Exception):
    """A value that cannot stand in a header field (C4); str() says why, and quotes nothing."""


async def resolve_credential(session: ControlSession, question: CredentialQuestion) -> ResolvedValue | AwsSession:
    """Return the credential; raises ControlError with a word of contracts section 4 or ours, UnusableCredential."""
    document: dict[str, object] = {
        "sandboxId": question.sandbox_id,
        "planRevision": question.plan_revision,
        "egressRuleId": question.egress_rule_id,
        "bindingId": question.binding_id,
        "connectionId": question.connection_id,
        "secretType": question.secret_type,
    }
    if question.slot_key is not None:
        document["slotKey"] = question.slot_key
    if question.resolver_key is not None:
        document["resolverKey"] = question.resolver_key
    path = "/internal/integration-credentials/resolve"
    try:
        answer = await session.ask("credential", "POST", path, document=document, most_bytes=MAX_ANSWER_BYTES)
    except ControlError as error:
        raise _known(error) from None
    return _read(read_object(answer.body))


def _known(error: ControlError) -> ControlError:
    """Let the word decide what is temporary; a word that is none of the contract's decides nothing."""
    temporary = _TEMPORARY.get(error.code)
    if temporary is None:
        if error.temporary:
            return error
        return unexpected(f"an error that resolution does not have, with status {error.status}", status=error.status)
    retry_after = (error.retry_after_seconds or 1) if temporary else 0
    return ControlError(
        error.code, temporary=temporary, detail=error.detail, retry_after_seconds=retry_after, status=error.status
    )


def _read(members: Members) -> ResolvedValue | AwsSession:
    found: ResolvedValue | AwsSession
    if members.word("kind", frozenset({"value", "aws_session"})) == "value":
        found = ResolvedValue(
            _usable(members.raw_text("value", most=MAX_VALUE_TEXT)),
            members.optional_instant("expiresAt"),
            members.text("version"),
        )
    else:
        token = members.optional_text("sessionToken", most=MAX_VALUE_TEXT)
        expires_at = members.optional_instant("expiresAt")
        if (token is None) != (expires_at is None):
            raise unexpected("a session has a token and an end, and keys that do not end have neither")
        found = AwsSession(
            members.text("accessKeyId"),
            _usable(members.raw_text("secretAccessKey", most=MAX_VALUE_TEXT)),
            None if token is None else _usable(token),
            expires_at,
            members.text("version"),
        )
    members.end()
    return found


def _usable(text: str) -> Secret:
    reason = why_unusable(text)
    if reason is not None:
        raise UnusableCredential(reason)
    return Secret(text.encode("latin-1"))
