"""What needs no token: health, readiness, the public keys."""

from typing import Final

from fastapi import APIRouter, Response

from control_plane.api.parts import PartsOf
from control_plane.signing import JWKS_MAX_AGE_SECONDS
from control_plane.store.database import DatabaseUnavailable

router = APIRouter()

_CACHE: Final = f"public, max-age={JWKS_MAX_AGE_SECONDS}"


@router.get("/healthz")
async def health() -> dict[str, object]:
    """Say that the process answers."""
    return {"status": "ok"}


@router.get("/readyz")
async def readiness(response: Response, parts: PartsOf) -> dict[str, object]:
    """Say whether requests can be served: whether the database answers. A package that is left out is only named."""
    try:
        await parts.database.ping()
    except DatabaseUnavailable:
        response.status_code = 503
        return {"status": "not_ready", "reasons": ["the database cannot be reached"]}
    left_out = parts.registry.left_out
    return {"status": "ready"} | ({"integrationsLeftOut": list(left_out)} if left_out else {})


@router.get("/.well-known/jwks.json")
async def jwks(response: Response, parts: PartsOf) -> dict[str, list[dict[str, str]]]:
    """Return the keys that tokens are signed with (RFC 7517)."""
    response.headers["Cache-Control"] = _CACHE
    return await parts.ring.jwks(parts.now())
