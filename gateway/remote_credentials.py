"""Credentials asked of the control plane: the other source behind the cache of credentials.py."""

from control_client.credentials import (
    AwsSession,
    CredentialQuestion,
    UnusableCredential,
    resolve_credential,
)
from control_client.errors import ControlError
from control_client.session import ControlSession
from gateway.core.aws_keys import AwsKeys, KeysUnusable, check_access_key_id
from gateway.core.credential_cache import Credential, ResolveRequest
from gateway.credentials import CredentialError


class RemoteCredentials:
    """Resolve at the control plane, once for each call; when and how often is the cache's affair."""

    def __init__(self, session: ControlSession) -> None:
        self._session = session

    async def resolve(self, request: ResolveRequest) -> Credential:
        """Return the credential; raise CredentialError with the control plane's word."""
        key = request.key
        question = CredentialQuestion(
            sandbox_id=key.sandbox_id,
            plan_revision=request.plan_revision,
            egress_rule_id=request.egress_rule_id,
            binding_id=key.binding_id,
            connection_id=key.connection_id,
            secret_type=key.secret_type,
            slot_key=key.slot_key,
            resolver_key=key.resolver_key,
        )
        try:
            found = await resolve_credential(self._session, question)
            value = _keys(found) if isinstance(found, AwsSession) else found.value
        except ControlError as error:
            raise CredentialError(
                error.code,
                temporary=error.temporary,
                retry_after_seconds=error.retry_after_seconds,
                detail=error.detail,
            ) from None
        except (UnusableCredential, KeysUnusable) as error:
            raise CredentialError("credential_unusable", temporary=False, detail=str(error)) from None
        return Credential(value, found.expires_at, found.version)

    def __repr__(self) -> str:
        return f"<RemoteCredentials of {self._session!r}>"


def _keys(session: AwsSession) -> AwsKeys:
    return AwsKeys(check_access_key_id(session.access_key_id), session.secret_access_key, session.session_token)
