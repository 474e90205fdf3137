"""A gateway without listeners and links: what gateway/mitm_addon.py asks about each request inside mitmproxy.

The same settings, the same pure code, in the order of gateway/serve.py; nothing is decided here a second time. It knows
no mitmproxy, so it can be run and checked where that is not installed.
"""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, cast

from gateway.config import GatewayConfig, process_environment, read_config
from gateway.core.authority import Refused, TargetReader, check_connect_host, invalid, read_connect_destination
from gateway.core.classify import admit, classify
from gateway.core.decision import Deny, Mode
from gateway.core.errors import (
    body_not_kept,
    body_too_large,
    credential_missing,
    no_plan,
    of_another_organization,
    placeholder_left,
    rate_limited,
    unauthenticated,
)
from gateway.core.inject.aws_sigv4 import declared_payload, without_presigned
from gateway.core.inject.prepare import Injection, UnfitCredential
from gateway.core.request_limit import RequestLimit
from gateway.core.route_table import InjectRoute, RouteTable, RouteUpstream
from gateway.core.upstream_head import PlaceholderLeft, upstream_head
from gateway.credentials import CredentialError, LocalCredentials
from gateway.keys import KeyRing, KeySet, KeySetError
from gateway.plan_holder import PlanFilesError, PlanHolder
from gateway.revocations import Revocations
from gateway.tokens import TokenVerifier, proxy_token
from sallyport.address_policy import AddressPolicy
from sallyport.claims import AUDIENCE_PROXY, Claims, TokenError
from sallyport.destination import Destination
from sallyport.net.clock import Clock
from sallyport.net.dial import Dialer
from sallyport.net.own_places import WILDCARDS, OwnPlaces, Place
from sallyport.net.resolve import Resolver
from sallyport.problem import Code
from sallyport.settings import ConfigError
from sallyport.wire.http1.head import RequestHead


class Admitted(NamedTuple):
    """A CONNECT that may go on."""

    mode: Mode
    claims: Claims
    destination: Destination


class Decided(NamedTuple):
    """What was decided about a request that goes on."""

    block: bytes
    upstream: RouteUpstream
    route: InjectRoute | None
    injection: Injection | None


class _CheckedAddress(asyncio.Protocol):
    """Stands where a dial would put a connection: the address that every check let through."""

    address: tuple[str, int]


async def _note_address(factory: Any, address: str, port: int) -> tuple[asyncio.Transport, asyncio.Protocol]:  # noqa: ANN401  the shape of sallyport.net.dial.Connect
    noted = factory()
    noted.address = (address, port)
    return cast(asyncio.Transport, None), noted


class Site:
    """What a gateway is made of, without its listeners and links; made from its settings. Raises SettingsUnusable."""

    def __init__(self, config: GatewayConfig) -> None:
        self.config = config
        self.plans = PlanHolder(max_sandboxes=config.limits.sandboxes, max_plan_bytes=config.limits.plan_bytes)
        self.plans.load_files(config.plans)
        self.tokens = TokenVerifier(
            _keys(config), issuer=config.tokens.issuer, audience=AUDIENCE_PROXY, revocations=Revocations()
        )
        self.credentials = LocalCredentials(config.credentials, process_environment())
        # What has to be closed comes last: nothing can go wrong after it.
        self.clock = Clock(asyncio.get_running_loop())
        self._resolver = Resolver(max_names=config.limits.resolver_cache_entries)
        self.listen_at(())

    def listen_at(self, places: Iterable[Place]) -> None:
        """Say where the proxy listens: neither that is dialled, nor a gateway by the same settings."""
        listening = self.config.listen
        named = [place for place in (listening.proxy, listening.tunnel, listening.admin) if place is not None]
        self._dialer = Dialer(
            AddressPolicy(allow=self.config.network.allow),
            self._resolver,
            own=OwnPlaces([*places, *(place for place in named if place.host in WILDCARDS)], named),
            connect_to={str(here): (there.host, there.port) for here, there in self.config.upstream.connect_to.items()},
            connect=_note_address,
        )

    def claims_of(self, value: bytes | None) -> Claims:
        """Say whose request carries this Proxy-Authorization; raises Refused."""
        try:
            token = None if value is None else proxy_token(value)
            if token is None:
                raise Refused(unauthenticated("the request carries no proxy token"))
            return self.tokens.verify(token, self.clock.wall)
        except TokenError as error:
            raise Refused(unauthenticated(f"the proxy token is refused: {error.reason.value}")) from None

    def table_of(self, claims: Claims) -> RouteTable:
        """Return the plan in force; raises Refused."""
        if claims.expires_at <= self.clock.wall:
            raise Refused(unauthenticated("the token has expired or was revoked"))
        table = self.plans.table(claims.sandbox_id)
        if table is None:
            raise Refused(no_plan())
        if table.organization_id != claims.organization_id:
            raise Refused(of_another_organization())
        return table

    def admit_connect(self, head: RequestHead) -> Admitted:
        """Admit a CONNECT as the explicit listener does; raises Refused."""
        claims = self.claims_of(head.proxy_authorization)
        if head.has_body:
            raise invalid("CONNECT has no body")
        destination = read_connect_destination(head.target)
        check_connect_host(head, destination)
        hosts = self.config.interception.passthrough_hosts
        mode = admit(self.table_of(claims), destination.host, destination.port, hosts)
        if isinstance(mode, Deny):
            raise Refused(mode)
        return Admitted(mode, claims, destination)

    async def decide(self, head: RequestHead, claims: Claims, reader: TargetReader) -> Decided:
        """Take a request from admission to the head that goes upstream, in the order of gateway/serve.py.

        Raises Refused. What it returns counts against the route's limit until release().
        """
        table = self.table_of(claims)
        destination, path, question, query = reader.read(head.target, head.host)
        decision, path, upstream = classify(table, destination, head.method, path)
        if isinstance(decision, Deny) or upstream is None:
            raise Refused(cast(Deny, decision))
        route = decision if isinstance(decision, InjectRoute) else None
        if route is not None:
            self._check_limits(route, head)
        try:
            injection = None if route is None else await self._injection(route)
            upgrade = b"websocket" if (head.upgrade or b"").lower() == b"websocket" and not head.has_body else None
            asked = query if question else None
            if injection is None or injection.signer is None:
                block = upstream_head(table, injection, head, upstream, path, asked, upgrade)
            else:
                payload = declared_payload(head)
                if payload is None:
                    raise Refused(body_not_kept(decision.rule_id))
                block = upstream_head(table, injection, head, upstream, path, without_presigned(asked), upgrade)
                block = injection.signer.sign(block, payload, self.clock.wall)
            return Decided(block, upstream, route, injection)
        except PlaceholderLeft:
            release(None if route is None else route.limit)
            raise Refused(placeholder_left(decision.rule_id)) from None
        except BaseException:
            release(None if route is None else route.limit)
            raise

    def _check_limits(self, route: InjectRoute, head: RequestHead) -> None:
        if route.max_body_bytes is not None and head.body > route.max_body_bytes:
            raise Refused(body_too_large(route.max_body_bytes, route.max_body_bytes))
        excess = None if route.limit is None else route.limit.admit(self.clock.now)
        if excess is not None:
            raise Refused(rate_limited(excess, route.rule_id))

    async def _injection(self, route: InjectRoute) -> Injection:
        try:
            current = [await self.credentials.resolve(request) for request in route.credentials]
            return Injection(route, current, scrub=self.config.scrub.enabled)
        except CredentialError as error:
            deny = credential_missing(error.code, error.temporary, error.retry_after_seconds, route.rule_id)
            raise Refused(deny) from None
        except UnfitCredential as error:
            deny = Deny(code=Code.CREDENTIAL_UNAVAILABLE, detail=str(error), rule_id=route.rule_id)
            raise Refused(deny) from None

    async def address_of(self, host: str, port: int) -> tuple[str, int]:
        """Resolve a destination under the address policy, `connect_to` included; raises DialError."""
        _, noted = await self._dialer.dial(host, port, _CheckedAddress)
        assert isinstance(noted, _CheckedAddress)
        return noted.address

    def close(self) -> None:
        """End the clock and the resolver's threads."""
        self.clock.close()
        self._resolver.close()


class SettingsUnusable(Exception):
    """The settings cannot be used here; str() says why."""


def read_site(path: Path) -> Site:
    """Make a site from a settings file; raises SettingsUnusable."""
    try:
        config = read_config(path, process_environment())
        if config.upstream.proxy is not None:
            raise SettingsUnusable("upstream.proxy does not work inside mitmproxy; take it out")
        return Site(config)
    except ConfigError as error:
        raise SettingsUnusable("; ".join(map(str, error.issues))) from None
    except (PlanFilesError, KeySetError) as error:
        raise SettingsUnusable(str(error)) from None
    except OSError as error:
        raise SettingsUnusable(f"{error.filename}: {error.strerror}") from None


def release(limit: RequestLimit | None) -> None:
    """Give back what a decided request has counted for."""
    if limit is not None:
        limit.release()


def _keys(config: GatewayConfig) -> KeyRing:
    ring = KeyRing()
    if config.tokens.public_key is not None:
        ring.replace(KeySet.from_public_key_pem(config.tokens.public_key.read_bytes()))
    elif config.tokens.jwks is not None:
        ring.replace(KeySet.from_jwks(config.tokens.jwks.read_bytes()))
    else:
        raise SettingsUnusable("tokens: keys in a file are needed; those of a control plane are not fetched here")
    return ring
