"""A route and its credentials, made ready to be written: once per credential version, not per request."""

from collections.abc import Sequence
from typing import Final, assert_never

from gateway.core.aws_keys import AwsKeys
from gateway.core.credential_cache import Credential
from gateway.core.inject.aws_sigv4 import Signer
from gateway.core.inject.field import additional_field, basic_field, bearer_field, header_field
from gateway.core.inject.placeholder import Replacement
from gateway.core.inject.query import query_pair
from gateway.core.route_table import InjectRoute
from gateway.core.scrub import Needles
from sallyport.plan.model import AwsSigv4Injection, BasicInjection, BearerInjection, HeaderInjection, QueryInjection
from sallyport.secret import Secret

_IDENTITY: Final = b"Accept-Encoding: identity\r\n"
_ACCEPT_ENCODING: Final = frozenset({b"accept-encoding"})


class UnfitCredential(Exception):
    """The credential is of another kind than the route's injection writes; str() may be told to the sandbox."""


class Injection:
    """What is written into a request, and what may not come back. It holds secrets: it is never printed.

    block is the end of a head: whole lines, and the empty one. made_of are the keys and credentials it was made of; a
    newer version of any of them means a new Injection. With a signer, each head is signed when it is written.
    """

    __slots__ = ("block", "made_of", "needles", "pair", "removed", "replacements", "signer", "strip_query", "versions")

    def __init__(self, route: InjectRoute, credentials: Sequence[Credential], *, scrub: bool) -> None:
        self.made_of = tuple(zip((request.key for request in route.credentials), credentials, strict=True))
        self.versions = tuple(credential.version for credential in credentials)
        self.pair: bytes | None = None
        self.signer: Signer | None = None
        self.replacements: list[Replacement] = []
        self.block = route.static_block
        for name, credential in zip(route.additional_names, credentials[1:], strict=True):
            self.block += additional_field(name, _single(route, credential))
        if isinstance(route.injection, AwsSigv4Injection):
            # No one value stands for keys, so a placeholder is never replaced here, and never leaves (C5).
            self.signer = Signer(route.injection, _keys(route, credentials[0]))
        else:
            self._write_auth(route, route.injection, _single(route, credentials[0]))
        self.needles = Needles.of(*(each for one in credentials for each in one.secrets)) if scrub else None
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

    def is_made_of(self, credentials: Sequence[Credential]) -> bool:
        """Whether it was made of these very credentials."""
        return all(used is given for (_, used), given in zip(self.made_of, credentials, strict=True))

    def _write_auth(
        self,
        route: InjectRoute,
        injection: BearerInjection | BasicInjection | HeaderInjection | QueryInjection,
        secret: Secret,
    ) -> None:
        self.replacements = [Replacement(value, parts, secret) for value, parts in route.placeholders]
        match injection:
            case BearerInjection():
                self.block += bearer_field(injection, secret)
            case BasicInjection():
                self.block += basic_field(injection, secret)
            case HeaderInjection():
                self.block += header_field(injection, secret)
            case QueryInjection(parameter=parameter):
                self.pair = query_pair(parameter, secret)
            case _:
                assert_never(injection)

    def __repr__(self) -> str:
        return "<Injection>"


def _single(route: InjectRoute, credential: Credential) -> Secret:
    if not isinstance(credential.value, Secret):
        raise UnfitCredential(f"route {route.rule_id}: an aws_session can only sign, by authInjection aws_sigv4")
    return credential.value


def _keys(route: InjectRoute, credential: Credential) -> AwsKeys:
    if not isinstance(credential.value, AwsKeys):
        raise UnfitCredential(f"route {route.rule_id}: aws_sigv4 signs with an aws_session, and this is a single value")
    return credential.value
