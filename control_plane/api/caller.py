"""Who calls: a service token for the control plane (contracts section 3), as bearer."""

from typing import Annotated

import structlog
from fastapi import Depends, Request

from control_plane.api.parts import PartsOf
from control_plane.refusals import ControlCode, Refused
from control_plane.store import events
from sallyport.claims import AUDIENCE_CONTROL, Claims, TokenError
from sallyport.wire.compact_token import bearer_token

_log = structlog.get_logger(__name__)


async def authenticate(request: Request, parts: PartsOf) -> Claims:
    """Return the claims of the caller's token; raise Refused, saying why in the log alone."""
    now = parts.now()
    try:
        token = bearer_token(request.headers.get("Authorization", "").encode("latin-1"))
        if token is None:
            raise Refused(ControlCode.UNAUTHORIZED, "send `Authorization: Bearer TOKEN`")
        claims = await parts.ring.verify(token, AUDIENCE_CONTROL, now)
    except TokenError as error:
        _log.warning("caller_refused", reason=error.reason.value, detail=str(error))
        raise Refused(ControlCode.UNAUTHORIZED, "the token is not accepted here; mint another") from None
    async with parts.database.read() as tx:
        if await events.is_revoked(tx, [("jti", claims.token_id)], now) is not None:
            _log.warning("caller_refused", reason="revoked", caller=claims.sandbox_id)
            raise Refused(ControlCode.UNAUTHORIZED, "the token is not accepted here; mint another")
    return claims


Caller = Annotated[Claims, Depends(authenticate)]
