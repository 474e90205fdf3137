"""A route and its credentials, made ready to be written: once per credential version, not per request."""

from collections.abc import Sequence
from typing import Final

from gateway.core.credential_cache import Credential
from gateway.core.inject.field import additional_field, basic_field, bearer_field, header_field
from gateway.core.inject.placeholder import Replacement
from gateway.core.inject.query import query_pair
from gateway.core.route_table import InjectRoute
from gateway.core.scrub import Needles
from sallyport.plan.model import BasicInjection, BearerInjection, HeaderInjection, QueryInjection
from sallyport.secret import Secret

_IDENTITY: Final = b"Accept-Encoding: identity\r\n"
_ACCEPT_ENCODING: Final = frozenset({b"accept-encoding"})


class UnsupportedInjection(Exception):
    """The plan names a kind of injection that this gateway cannot do yet."""


class Injection:
    """What is written into a request, and what may not come back. It holds secrets: it is never printed.

    block is the end of a head: whole lines, and the empty one. made_of are the keys and credentials it was made of; a
    newer version of any of them means a new Injection.
    """

    __slots__ = ("block", "made_of", "needles", "pair", "removed", "replacements", "strip_query", "versions")

    def __init__(self, route: InjectRoute, credentials: Sequence[Credential], *, scrub: bool) -> None:
        secrets = [credential.value for credential in credentials]
        self.made_of = tuple(zip((request.key for request in route.credentials), credentials, strict=True))
        self.versions = tuple(credential.version for credential in credentials)
        self.pair: bytes | None = None
        self.block = route.static_block + b"".join(map(additional_field, route.additional_names, secrets[1:]))
        self._write_auth(route, secrets[0])
        self.replacements = [Replacement(value, parts, secrets[0]) for value, parts in route.placeholders]
        self.needles = Needles.of(*secrets) if scrub else None
        self.removed = route.removed
        self.strip_query = route.strip_query
        if scrub:
            # C3: an answer that cannot be read cannot be scrubbed.
            self.block += _IDENTITY
            self.removed |= _ACCEPT_ENCODING
        self.block += b"\r\n"

    @property
    def is_blind(self) -> bool:
        """Whether answers are searched, and a secret is too short to be looked for."""
        return self.needles is not None and self.needles.too_short

    def _write_auth(self, route: InjectRoute, secret: Secret) -> None:
        match route.injection:
            case BearerInjection() as injection:
                self.block += bearer_field(injection, secret)
            case BasicInjection() as injection:
                self.block += basic_field(injection, secret)
            case HeaderInjection() as injection:
                self.block += header_field(injection, secret)
            case QueryInjection(parameter=parameter):
                self.pair = query_pair(parameter, secret)
            case unsupported:  # aws_sigv4, and whatever a later plan may name
                raise UnsupportedInjection(f"route {route.rule_id}: {unsupported.type} is not supported yet")

    def __repr__(self) -> str:
        return "<Injection>"
