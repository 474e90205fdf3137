"""Whose certificates end TLS on the explicit listener: authorities of this gateway's own directory, or remote ones.

A remote authority was made by the control plane, so that every replica issues under the same one. It is held in
memory only, fetched when a sandbox first needs it and again well before it ends.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Protocol

import structlog

from control_client.authorities import fetch_authority
from control_client.errors import ControlError
from control_client.session import ControlSession
from gateway.fetches import Fetches
from sallyport.net.interception import Authorities, CaStore, CertificateAuthority, InterceptionError, parse_authority

# Each is a few kilobytes and one request away.
MAX_AUTHORITIES: Final = 4096

_log = structlog.get_logger(__name__)


class FetchedAuthorities(Authorities, Protocol):
    """Where the explicit listener finds a sandbox's authority, now or in a moment."""

    def want(self, sandbox_id: str, now: float) -> Awaitable[object] | None:
        """Begin to fetch what authority() lacks; ends in time, never raises. None: authority() can be asked."""


class LocalAuthorities(CaStore):
    """The authorities of standalone mode."""

    def want(self, sandbox_id: str, now: float) -> Awaitable[object] | None:
        """Return None: files need no waiting for."""
        return None


class RemoteAuthorities:
    """The control plane's authorities, each kept until a day before its end."""

    def __init__(
        self, session: ControlSession, fetches: Fetches, now: Callable[[], float], *, wait_seconds: float
    ) -> None:
        """now is unix time."""
        self._wait_seconds = wait_seconds
        self._session = session
        self._fetches = fetches
        self._now = now
        # In order of arrival; one that is used is fetched again before it ends, and so moves to the back.
        self._known: dict[str, CertificateAuthority] = {}

    def authority(self, sandbox_id: str, now: float) -> CertificateAuthority:
        """Give the sandbox's authority if it is in memory; InterceptionError."""
        known = self._known.get(sandbox_id)
        if known is None:
            raise InterceptionError(Path(sandbox_id), "its CA has not come from the control plane", "try again")
        return known

    def want(self, sandbox_id: str, now: float) -> Awaitable[object] | None:
        """Begin to fetch an authority; one that nears its end serves while the next is on its way."""
        known = self._known.get(sandbox_id)
        if known is not None and known.is_current(now):
            return None
        wanted = self._fetches.join(sandbox_id, lambda: self._fetch(sandbox_id), wait_seconds=self._wait_seconds)
        if known is not None and known.is_current(now, ahead_seconds=0):
            return None
        return wanted

    async def _fetch(self, sandbox_id: str) -> None:
        try:
            found = await fetch_authority(self._session, sandbox_id)
            authority = parse_authority(found.certificate_pem, found.private_key_pem, sandbox_id)
        except (ControlError, ValueError) as error:
            _log.warning("interception_ca_not_fetched", sandbox_id=sandbox_id, detail=str(error))
            return
        if not authority.is_current(self._now(), ahead_seconds=0):
            _log.warning("interception_ca_not_fetched", sandbox_id=sandbox_id, detail="it is not valid now")
            return
        self._known.pop(sandbox_id, None)
        while len(self._known) >= MAX_AUTHORITIES:
            del self._known[next(iter(self._known))]
        self._known[sandbox_id] = authority

    def __repr__(self) -> str:
        return f"<RemoteAuthorities: {len(self._known)} in memory>"
