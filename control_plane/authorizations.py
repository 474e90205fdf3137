"""Members on the way to a provider and back: OAuth 2.0 authorization codes, and redirects (an App's installation).

The state is used once, whatever comes of it; the provider is asked between two transactions.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from control_plane import connections, sources
from control_plane.connections import config_text, member_config, method_of
from control_plane.definitions.contract import (
    ConfigToProve,
    Document,
    MethodKind,
    OAuthContext,
    TokenCall,
    provider_owned,
)
from control_plane.definitions.registry import Registry
from control_plane.ids import new_id
from control_plane.keeper import put_made
from control_plane.oauth import proof, token_endpoint
from control_plane.oauth.provider_error import Fault, ProviderError
from control_plane.oauth.provider_session import ProviderSession
from control_plane.oauth.proving import prove
from control_plane.oauth.token_endpoint import Client, Tokens, ask_token_endpoint, authorization_url
from control_plane.offered import Offer, enabled_offer, open_target_secret, read_config
from control_plane.refusals import ControlCode, FieldIssue, Refused
from control_plane.store import authorizations
from control_plane.store import connections as rows
from control_plane.store.database import Database, Transaction
from control_plane.store.models import AuthorizationSession, Connection
from control_plane.vault.envelope import Place, Vault
from sallyport.secret import Secret

# How long a member may take at the provider (contracts section 5).
STATE_SECONDS: Final = 600
# Where the browser comes back to, below the public URL. Operators enter these at providers.
OAUTH_CALLBACK: Final = "/p/integration/oauth/callback"
REDIRECT_CALLBACK: Final = "/p/integration/redirect/callback"
REDIRECTS: Final = (MethodKind.GITHUB_APP_INSTALLATION, MethodKind.REDIRECT)


class Wanted(NamedTuple):
    """What a member wants to authorise. With a connection's id that one is authorised again."""

    target_key: str
    organization_id: str
    config: Mapping[str, object] | None
    display_name: str | None
    connection_id: str | None
    caller: str


class Began(NamedTuple):
    """Who says that he began it, where that is known: a browser that comes back brings the state alone."""

    target_key: str
    organization_id: str


class _Exchange(NamedTuple):
    """A code that is about to be exchanged."""

    session: AuthorizationSession
    offer: Offer
    call: TokenCall
    client: Client
    verifier: Secret


class AuthorizationDesk:
    """Sends members to providers and takes them back."""

    def __init__(
        self, database: Database, vault: Vault, registry: Registry, session: ProviderSession, public_url: str
    ) -> None:
        self._database = database
        self._vault = vault
        self._registry = registry
        self._session = session
        self._public_url = public_url

    # --- there --------------------------------------------------------------------------------------------------------

    async def start_oauth(self, wanted: Wanted, now: float) -> dict[str, object]:
        """Return the URL a member authorises at. Raises Refused."""
        state, verifier = proof.new_state(), proof.new_verifier()
        redirect_uri = self._public_url + OAUTH_CALLBACK
        async with self._database.write() as tx:
            offer, config = await self._open(tx, wanted)
            method_of(offer, MethodKind.OAUTH2_AUTHORIZATION_CODE)
            flow = offer.definition.oauth2_authorization_code
            assert flow is not None, "a definition with this method has this flow"
            client = await self._client(tx, offer)
            request = flow.start_authorization(_context(offer, config))
            url = authorization_url(request, client.id, state=state, redirect_uri=redirect_uri, verifier=verifier)
            kind = MethodKind.OAUTH2_AUTHORIZATION_CODE
            await self._keep(tx, wanted, config, kind, state, redirect_uri, verifier, now)
        return _started(url, state, now)

    async def start_redirect(self, wanted: Wanted, now: float) -> dict[str, object]:
        """Return the URL a member is sent to. Raises Refused."""
        state = proof.new_state()
        async with self._database.write() as tx:
            offer, config = await self._open(tx, wanted)
            method = method_of(offer, *REDIRECTS)
            handler = offer.definition.redirect_handler
            if handler is None or any(field.required for field in method.secrets):
                raise Refused(ControlCode.METHOD_NOT_OFFERED, "it is connected by secrets, not by a redirect")
            url = handler.start(_context(offer, config))
            url = token_endpoint.with_query(url, {handler.state_parameter: state})
            redirect_uri = self._public_url + REDIRECT_CALLBACK
            await self._keep(tx, wanted, config, method.kind, state, redirect_uri, None, now)
        return _started(url, state, now)

    async def _open(self, tx: Transaction, wanted: Wanted) -> tuple[Offer, Mapping[str, object]]:
        """Return the offer, and the configuration the connection is to have."""
        offer = await enabled_offer(tx, self._registry, wanted.target_key)
        config, before = wanted.config or {}, dict[str, object]()
        if wanted.connection_id is not None:
            known = await rows.connection(tx, wanted.connection_id)
            if known is None or (known.organization_id, known.target_key) != (
                wanted.organization_id,
                wanted.target_key,
            ):
                raise connections.not_found()
            if known.status == connections.REVOKED:
                connections.refuse_inactive(known)
            before = orjson.loads(known.config)
            config = before if wanted.config is None else config
        config = member_config(offer, config, before)
        config_text(offer, config)
        # What the provider said of the account before is not said of the one that comes back.
        owned = provider_owned(offer.definition.connection_config)
        return offer, {name: value for name, value in config.items() if name not in owned}

    async def _client(self, tx: Transaction, offer: Offer) -> Client:
        try:
            return await sources.oauth_client(tx, self._vault, offer)
        except ProviderError as error:
            raise Refused(ControlCode.TARGET_NOT_READY, error.reason) from None

    async def _keep(
        self,
        tx: Transaction,
        wanted: Wanted,
        config: Mapping[str, object],
        kind: MethodKind,
        state: str,
        redirect_uri: str,
        verifier: Secret | None,
        now: float,
    ) -> None:
        hashed = proof.state_hash(state)
        place = _verifier_place(wanted.organization_id, hashed)
        session = AuthorizationSession(
            state_hash=hashed,
            organization_id=wanted.organization_id,
            target_key=wanted.target_key,
            method=kind.value,
            connection_id=wanted.connection_id,
            display_name=wanted.display_name,
            config=orjson.dumps(dict(config)).decode(),
            verifier=None if verifier is None else await self._vault.seal(tx, place, verifier),
            redirect_uri=redirect_uri,
            created_by=wanted.caller,
            expires_at=int(now) + STATE_SECONDS,
        )
        await tx.add(session)

    # --- and back -----------------------------------------------------------------------------------------------------

    async def complete_oauth(self, state: str, code: str, now: float, began: Began | None = None) -> dict[str, object]:
        """Exchange a code and make the connection, or authorise it again. Raises Refused."""
        exchange = await self._begin_exchange(state, now, began)
        flow = exchange.offer.definition.oauth2_authorization_code
        assert flow is not None, "a definition with this method has this flow"
        members = token_endpoint.authorization_code(code, exchange.verifier, exchange.session.redirect_uri)
        try:
            tokens = await ask_token_endpoint(self._session, exchange.call, exchange.client, members, flow.read_grant)
        except ProviderError as error:
            raise _not_authorised(error) from None
        return await self._finish(exchange.session, tokens.config, tokens, now)

    async def complete_redirect(
        self, state: str, query: Mapping[str, str], now: float, began: Began | None = None
    ) -> dict[str, object]:
        """Take a member back with what the provider gave along. Raises Refused."""
        session = await self._take(state, REDIRECTS, now, began)
        async with self._database.read() as tx:
            offer = await enabled_offer(tx, self._registry, session.target_key)
        handler = offer.definition.redirect_handler
        if handler is None:
            raise Refused(ControlCode.METHOD_NOT_OFFERED, "its provider is not reached by a redirect")
        found = handler.complete(_context(offer, orjson.loads(session.config)), query)
        if isinstance(found, ConfigToProve):
            await self._prove(offer, found)
            return await self._finish(session, found.config, None, now)
        if not isinstance(found, Mapping):
            issues = [FieldIssue(issue.code, issue.pointer, issue.message) for issue in found]
            raise Refused(ControlCode.AUTHORIZATION_REFUSED, "what came back does not fit", issues=issues)
        async with self._database.read() as tx:
            await _refuse_taken(tx, session, found)
        return await self._finish(session, found, None, now)

    async def _prove(self, offer: Offer, claim: ConfigToProve) -> None:
        """Let the member's own token show that the account is theirs. Raises Refused."""
        async with self._database.read() as tx:
            client_id = await open_target_secret(tx, self._vault, offer.target.key, claim.client_id)
            client_secret = await open_target_secret(tx, self._vault, offer.target.key, claim.client_secret)
        if client_id is None:
            raise Refused(ControlCode.TARGET_NOT_READY, f"the operator has not set {claim.client_id}")
        try:
            await prove(self._session, claim, Client(client_id, client_secret))
        except ProviderError as error:
            raise _not_authorised(error) from None

    def state_of(self, query: Mapping[str, str]) -> str | None:
        """Return the state of a redirect's way back; providers call it differently."""
        handlers = [each.redirect_handler for each in self._registry if each.redirect_handler is not None]
        names = sorted({handler.state_parameter for handler in handlers})
        return next((query[name] for name in names if name in query), None)

    async def give_up(self, state: str, error: str, now: float) -> Refused:
        """Forget a member who came back without a code, and return the refusal that says why."""
        await self._take(state, (MethodKind.OAUTH2_AUTHORIZATION_CODE,), now, None)
        reason = token_endpoint.authorization_refused(error)
        return Refused(ControlCode.AUTHORIZATION_REFUSED, f"the provider refused: {reason}")

    async def _take(
        self, state: str, kinds: tuple[MethodKind, ...], now: float, began: Began | None
    ) -> AuthorizationSession:
        async with self._database.write() as tx:
            session = await authorizations.take(tx, proof.state_hash(state))
        is_ours = session is not None and session.expires_at > now and session.method in kinds
        if session is not None and began is not None:
            is_ours = is_ours and began == Began(session.target_key, session.organization_id)
        if session is None or not is_ours:
            detail = "this way to the provider is unknown, ended, or was used before; begin again"
            raise Refused(ControlCode.AUTHORIZATION_REFUSED, detail)
        return session

    async def _begin_exchange(self, state: str, now: float, began: Began | None) -> _Exchange:
        session = await self._take(state, (MethodKind.OAUTH2_AUTHORIZATION_CODE,), now, began)
        async with self._database.read() as tx:
            offer = await enabled_offer(tx, self._registry, session.target_key)
            flow = offer.definition.oauth2_authorization_code
            if flow is None or session.verifier is None:
                raise Refused(ControlCode.METHOD_NOT_OFFERED, "the integration changed meanwhile; begin again")
            client = await self._client(tx, offer)
            place = _verifier_place(session.organization_id, session.state_hash)
            verifier = await self._vault.open(tx, place, session.verifier)
        call = flow.complete_authorization_code_grant(_context(offer, orjson.loads(session.config)))
        return _Exchange(session, offer, call, client, verifier)

    async def _finish(
        self, session: AuthorizationSession, found: Document, tokens: Tokens | None, now: float
    ) -> dict[str, object]:
        """Make or renew the connection with what the provider gave."""
        async with self._database.write() as tx:
            offer = await enabled_offer(tx, self._registry, session.target_key)
            text = _merged(offer, orjson.loads(session.config), found)
            connection = await self._connection(tx, session, text, now)
            if tokens is not None:
                method = method_of(offer, MethodKind.OAUTH2_AUTHORIZATION_CODE)
                # Of the account before; a provider that gives no new one must not be asked with it.
                await rows.forget_credentials(tx, connection.id)
                key = (connection.id, method.secret_type, "")
                await put_made(tx, self._vault, connection, key, sources.made_of(tokens, now), now)
            shown = connections.document(connection, await rows.credentials(tx, [connection.id]))
            await connections.redefined(tx, connection, now)
            return shown

    async def _connection(self, tx: Transaction, session: AuthorizationSession, config: str, now: float) -> Connection:
        if session.connection_id is None:
            made = Connection(
                id=new_id("con", now),
                organization_id=session.organization_id,
                target_key=session.target_key,
                display_name=session.display_name,
                status=connections.ACTIVE,
                method=session.method,
                config=config,
                error=None,
                revision=1,
                created_at=int(now),
                updated_at=int(now),
            )
            await tx.add(made)
            return made
        known = await rows.connection(tx, session.connection_id, lock=True)
        if known is None:
            raise connections.not_found()
        if known.status == connections.REVOKED:
            connections.refuse_inactive(known)
        known.method, known.config = session.method, config
        known.display_name = session.display_name or known.display_name
        connections.activate(known, now)
        return known


def _not_authorised(error: ProviderError) -> Refused:
    is_temporary = error.fault is Fault.TEMPORARY
    code = ControlCode.PROVIDER_UNAVAILABLE if is_temporary else ControlCode.AUTHORIZATION_REFUSED
    return Refused(code, error.reason)


def _started(url: str, state: str, now: float) -> dict[str, object]:
    return {"authorizationUrl": url, "state": state, "expiresAt": int(now) + STATE_SECONDS}


def _context(offer: Offer, config: Mapping[str, object]) -> OAuthContext[Any, Any]:
    return OAuthContext(target=offer.target, config=read_config(offer.definition.connection_config, config))


def _merged(offer: Offer, config: Mapping[str, object], found: Document) -> str:
    try:
        return config_text(offer, {**config, **found})
    except Refused as refused:
        raise Refused(ControlCode.AUTHORIZATION_REFUSED, "what came back does not fit", issues=refused.issues) from None


async def _refuse_taken(tx: Transaction, session: AuthorizationSession, found: Document) -> None:
    """Refuse what another organization has connected already: a browser can come back with anybody's account."""
    for other in await rows.of_target(tx, session.target_key, session.organization_id):
        theirs = orjson.loads(other.config)
        if found and all(theirs.get(name) == value for name, value in found.items()):
            raise Refused(ControlCode.AUTHORIZATION_REFUSED, "this account is connected by another organization")


def _verifier_place(organization_id: str, state_hash: str) -> Place:
    return Place(organization_id, "authorization_sessions", (state_hash,), "verifier")
