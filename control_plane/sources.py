"""Credentials that are made: which one a route means, and the question to its provider, ready to be asked.

Everything here happens within a transaction of the caller's; an `Order` is carried out outside any.
"""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Final, NamedTuple

import orjson
from pydantic import ValidationError

from control_plane import connections
from control_plane.definitions.contract import (
    AwsSession,
    Connection,
    CredentialSource,
    GitHubInstallationToken,
    MethodKind,
    OAuth2Access,
    OAuthContext,
    ResolveContext,
)
from control_plane.oauth import token_endpoint
from control_plane.oauth.aws_sts import ask_role_session
from control_plane.oauth.github_app import ask_installation_token
from control_plane.oauth.provider_error import permanent, temporary
from control_plane.oauth.provider_session import Made, ProviderSession
from control_plane.oauth.token_endpoint import Client, Tokens, ask_token_endpoint
from control_plane.offered import Offer, open_target_secret
from control_plane.refusals import ControlCode, Refused
from control_plane.store import connections as rows
from control_plane.store.database import Transaction
from control_plane.store.models import Connection as ConnectionRow
from control_plane.store.models import Credential
from control_plane.vault.envelope import Vault
from sallyport.plan.fields import Model
from sallyport.secret import Secret

ACCESS_KEY_ID: Final = "access_key_id"
SECRET_ACCESS_KEY: Final = "secret_access_key"
# The slot of a token by client credentials begins so; every slot of what was made begins with an underscore.
OAUTH_SLOT: Final = "_oauth2."

type Key = tuple[str, str, str]
type Order = Callable[[ProviderSession, float], Awaitable[Made]]


class Wish(NamedTuple):
    """A credential to be made, and where it is kept: connection, secret type, slot."""

    key: Key
    offer: Offer
    source: CredentialSource
    config: Model


async def wished(
    tx: Transaction, offer: Offer, connection: ConnectionRow, name: str, binding_id: str | None
) -> Wish | None:
    """Return what the resolver of a name asks for; None where no resolver is called so. Raises Refused."""
    resolver = offer.definition.credential_resolvers.get(name)
    if resolver is None:
        return None
    parsed = await parsed_connection(tx, offer, connection)
    binding = None if binding_id is None else await _binding(tx, offer, connection, binding_id)
    source = resolver(ResolveContext(target=offer.target, connection=parsed, binding=binding))
    slot = f"_{_digest(asdict(source))}"
    if isinstance(source, OAuth2Access):
        slot = _oauth_slot(offer, parsed)
        method = offer.definition.method(parsed.method)
        name = name if method is None else method.secret_type  # where completing a grant has put it
    return Wish((connection.id, name, slot), offer, source, parsed.config)


async def parsed_connection(tx: Transaction, offer: Offer, connection: ConnectionRow) -> Connection[Any]:
    """Return a connection as its definition sees it. Raises Refused."""
    return read_connection(offer, connection, await rows.credentials(tx, [connection.id]))


def read_connection(offer: Offer, connection: ConnectionRow, kept: Sequence[Credential]) -> Connection[Any]:
    """Return a connection with these credentials as its definition sees it. Raises Refused."""
    try:
        config = offer.definition.connection_config.model_validate(orjson.loads(connection.config))
    except ValidationError:
        detail = "its configuration does not fit the integration any more; change it"
        raise Refused(ControlCode.CONNECTION_NOT_ACTIVE, detail) from None
    types = frozenset(each.secret_type for each in kept if connections.is_stored(each))
    return Connection(id=connection.id, method=MethodKind(connection.method), config=config, secret_types=types)


async def order(tx: Transaction, vault: Vault, connection: ConnectionRow, wish: Wish) -> Order:
    """Return the question to the provider. Raises ProviderError where something it needs is missing."""
    match wish.source:
        case OAuth2Access() if connection.method == MethodKind.OAUTH2_CLIENT_CREDENTIALS:
            return await _client_credentials(tx, vault, connection, wish)
        case OAuth2Access():
            return await _refresh(tx, vault, connection, wish)
        case GitHubInstallationToken() as source:
            app_id = await _either_secret(tx, vault, connection, source.app_id)
            key = await _either_secret(tx, vault, connection, source.private_key)
            return partial(ask_installation_token, source=source, app_id=app_id, private_key=key)
        case AwsSession() as source:
            key_id = await _either_secret(tx, vault, connection, ACCESS_KEY_ID)
            secret = await _either_secret(tx, vault, connection, SECRET_ACCESS_KEY)
            return partial(ask_role_session, source=source, access_key_id=key_id, secret=secret)


async def oauth_client(tx: Transaction, vault: Vault, offer: Offer) -> Client:
    """Return the operator's OAuth client at a target's provider. Raises ProviderError."""
    flow = offer.definition.oauth2_authorization_code
    assert flow is not None, "a definition with this method has this flow"
    client_id = await open_target_secret(tx, vault, offer.target.key, flow.client_id)
    if client_id is None:
        raise temporary(f"the operator has not set {flow.client_id}")
    return Client(client_id, await open_target_secret(tx, vault, offer.target.key, flow.client_secret))


def made_of(tokens: Tokens, now: float) -> Made:
    """Return what a token endpoint's answer is worth, counted from when it was asked."""
    expires_at = None if tokens.expires_in is None else int(now) + tokens.expires_in
    return Made(tokens.access, expires_at, tokens.refresh)


async def _refresh(tx: Transaction, vault: Vault, connection: ConnectionRow, wish: Wish) -> Order:
    flow = wish.offer.definition.oauth2_authorization_code
    token = await _secret(tx, vault, connection, connections.REFRESH_TOKEN)
    if flow is None or token is None:
        raise permanent("the access token ended, and the provider gave none to refresh it by")
    call = flow.refresh_access_token(OAuthContext(target=wish.offer.target, config=wish.config))
    client, read_grant = await oauth_client(tx, vault, wish.offer), flow.read_grant
    members = token_endpoint.refresh_token(token)

    async def ask(session: ProviderSession, now: float) -> Made:
        return made_of(await ask_token_endpoint(session, call, client, members, read_grant), now)

    return ask


async def _client_credentials(tx: Transaction, vault: Vault, connection: ConnectionRow, wish: Wish) -> Order:
    flow = wish.offer.definition.oauth2_client_credentials
    assert flow is not None, "a definition with this method has this flow"
    context = OAuthContext(target=wish.offer.target, config=wish.config)
    call, read_grant = flow.exchange_client_credentials(context), flow.read_grant
    secret = await _either_secret(tx, vault, connection, flow.client_secret)
    client = Client(Secret(flow.client_id(wish.config).encode("utf-8")), secret)
    members = token_endpoint.client_credentials(tuple(flow.scopes(context)))

    async def ask(session: ProviderSession, now: float) -> Made:
        return made_of(await ask_token_endpoint(session, call, client, members, read_grant), now)

    return ask


async def _binding(tx: Transaction, offer: Offer, connection: ConnectionRow, binding_id: str) -> Model | None:
    """Return a binding's configuration; None where the plan was written by hand and there is no such binding."""
    row = await rows.binding(tx, binding_id)
    if row is None or row.connection_id != connection.id:
        return None
    try:
        found: Model = offer.definition.binding_config.model_validate(orjson.loads(row.config))
    except ValidationError:
        detail = "the binding's configuration does not fit the integration any more"
        raise Refused(ControlCode.BINDING_NOT_IN_PLAN, detail) from None
    return found


async def _secret(tx: Transaction, vault: Vault, connection: ConnectionRow, secret_type: str) -> Secret | None:
    row = await tx.get(Credential, (connection.id, secret_type, ""))
    if row is None:
        return None
    return await vault.open(tx, connections.credential_place(connection, secret_type, ""), row.value)


async def _either_secret(tx: Transaction, vault: Vault, connection: ConnectionRow, name: str) -> Secret:
    """Return a secret of the connection, or the target's where the connection has none of the name."""
    found = await _secret(tx, vault, connection, name)
    found = found or await open_target_secret(tx, vault, connection.target_key, name)
    if found is None:
        raise temporary(f"neither the connection nor its target has {name}")
    return found


def _oauth_slot(offer: Offer, connection: Connection[Any]) -> str:
    flow = offer.definition.oauth2_client_credentials
    if connection.method is not MethodKind.OAUTH2_CLIENT_CREDENTIALS or flow is None:
        return ""
    context = OAuthContext(target=offer.target, config=connection.config)
    call = asdict(flow.exchange_client_credentials(context))
    asked = {"call": call, "client": flow.client_id(connection.config), "scopes": list(flow.scopes(context))}
    return OAUTH_SLOT + _digest(asked)


def _digest(question: object) -> str:
    """Tell questions apart: what was made for one is never given for another."""
    return hashlib.sha256(orjson.dumps(question, option=orjson.OPT_SORT_KEYS)).hexdigest()[:40]
