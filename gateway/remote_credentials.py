"""Credentials asked of the control plane: the other source behind the cache of credentials.py."""

from control_client.credentials import (
    AwsSession,
    CredentialQuestion,
    UnusableCredential,
    resolve_credential,
)
from control_client.errors import ControlError
from control_client.session import ControlSession
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
        except ControlError as error:
            raise CredentialError(
                error.code,
                temporary=error.temporary,
                retry_after_seconds=error.retry_after_seconds,
                detail=error.detail,
            ) from None
        except UnusableCredential as error:
            raise CredentialError("credential_unusable", temporary=False, detail=str(error)) from None
        if isinstance(found, AwsSession):
            # Signing requests with one is not built; nothing else could be done with it.
            detail = "the control plane gave an AWS session, with which no injection of this version can sign"
            raise CredentialError("credential_kind_unsupported", temporary=False, detail=detail)
        return Credential(found.value, found.expires_at, found.version)

    def __repr__(self) -> str:
        return f"<RemoteCredentials of {self._session!r}>"
