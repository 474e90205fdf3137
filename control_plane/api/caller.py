"""Who calls, by a service token or an API key, and whether it may: before any endpoint runs."""

from collections.abc import Sequence
from typing import Annotated, Final

import structlog
from fastapi import Depends, Query, Request
from fastapi.routing import APIRoute

from control_plane import api_keys
from control_plane.api.parts import Parts, PartsOf
from control_plane.callers import Caller as CallerFound
from control_plane.callers import Role, may
from control_plane.feed import keys
from control_plane.feed.keys import KeyHolder
from control_plane.feed.tiers import TIERS, Tier
from control_plane.ownership import own_organization, refuse_foreign
from control_plane.refusals import ControlCode, Refused
from control_plane.store import events
from sallyport.claims import AUDIENCE_CONTROL, TokenError
from sallyport.wire.compact_token import bearer_token

# Where a request keeps its caller once it is known.
SCOPE_KEY: Final = "sallyport.caller"

_log = structlog.get_logger(__name__)


async def authenticate(request: Request, parts: PartsOf) -> CallerFound:
    """Return the caller, who may ask this and names nothing of another organization; raise Refused."""
    caller = await identify(request, parts)
    route = request.scope.get("route")
    if not isinstance(route, APIRoute) or not may(caller, request.method, route.path):
        raise Refused(ControlCode.FORBIDDEN, f"a caller of the role {_words(caller)} may not ask this")
    await refuse_foreign(parts.database, caller, [*request.path_params.items(), *request.query_params.multi_items()])
    return caller


async def identify(request: Request, parts: Parts) -> CallerFound:
    """Return who calls, counting it once; raise Refused, saying why in the log alone."""
    known = request.scope.get(SCOPE_KEY)
    if isinstance(known, CallerFound):
        return known
    now = parts.now()
    try:
        caller = await _caller(request, parts, now)
    except Refused:
        parts.rates.count_failure(_address(request), now)
        raise
    parts.rates.count_request(caller, now)
    request.scope[SCOPE_KEY] = caller
    return caller


async def identify_client(request: Request, parts: PartsOf) -> KeyHolder:
    """Return who shows a client key, counting it; raise Refused, saying why in the log alone."""
    now = parts.now()
    try:
        holder = await keys.find(parts.database, _credential(request)[0])
        if holder is None:
            _log.warning("caller_refused", reason="client_key")
            raise Refused(ControlCode.UNAUTHORIZED, "the client key is not accepted here; ask an operator for another")
    except Refused:
        parts.rates.count_failure(_address(request), now)
        raise
    parts.rates.count_request(CallerFound(id=holder.key_id, roles=frozenset()), now)
    return holder


async def _caller(request: Request, parts: Parts, now: float) -> CallerFound:
    credential, is_bearer = _credential(request)
    if is_bearer and not api_keys.looks_like_key(credential):
        return await _by_token(credential, parts, now)
    caller = await api_keys.find_caller(parts.database, credential, now)
    if caller is None:
        _log.warning("caller_refused", reason="api_key")
        raise Refused(ControlCode.UNAUTHORIZED, "the API key is not accepted here; ask an operator for another")
    return caller


def _credential(request: Request) -> tuple[str, bool]:
    """Return what a request shows, and whether as a bearer; raise Refused where that is nothing, or two things."""
    try:
        bearer = bearer_token(request.headers.get("Authorization", "").encode("latin-1"))
    except TokenError as error:
        raise _token_refused(reason=error.reason.value, detail=str(error)) from None
    key = request.headers.get("X-API-Key")
    credentials = [each for each in (bearer, key) if each is not None]
    if len(credentials) != 1:
        detail = "send `Authorization: Bearer CREDENTIAL` or `X-API-Key: KEY`, and one of them only"
        raise Refused(ControlCode.UNAUTHORIZED, detail)
    return credentials[0], key is None


async def _by_token(token: str, parts: Parts, now: float) -> CallerFound:
    try:
        claims = await parts.ring.verify(token, AUDIENCE_CONTROL, now)
    except TokenError as error:
        raise _token_refused(reason=error.reason.value, detail=str(error)) from None
    async with parts.database.read() as tx:
        if await events.is_revoked(tx, [("jti", claims.token_id)], now) is not None:
            raise _token_refused(reason="revoked", caller=claims.sandbox_id)
    roles = frozenset({Role.OPERATOR, Role.SERVICE})
    return CallerFound(id=f"service:{claims.sandbox_id}", roles=roles, expires_at=claims.expires_at)


def _token_refused(**logged: str) -> Refused:
    _log.warning("caller_refused", **logged)
    return Refused(ControlCode.UNAUTHORIZED, "the token is not accepted here; mint another")


def _address(request: Request) -> str:
    return "" if request.client is None else request.client.host


def _words(caller: CallerFound) -> str:
    return " and ".join(sorted(caller.roles))


Caller = Annotated[CallerFound, Depends(authenticate)]


async def _organization(
    caller: Caller,
    organization_id: Annotated[
        str | None, Query(alias="organizationId", pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")
    ] = None,
) -> str | None:
    return own_organization(caller, organization_id)


async def _tiers(caller: Caller) -> Sequence[Tier]:
    return TIERS if caller.is_operator else (Tier.STANDARD,)


# The tiers of what a caller is shown, and may make.
TiersOf = Annotated[Sequence[Tier], Depends(_tiers)]


# The organization that a list is narrowed to: what the query says, and always its own for a bound caller.
OrganizationQuery = Annotated[str | None, Depends(_organization)]
