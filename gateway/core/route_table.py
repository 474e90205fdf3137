"""A plan's routes, prepared so that a request pays only for what is its own.

Everything that follows from the plan alone is worked out here, once per revision: what is removed, what
is written, where it goes, which credentials are needed, and which links may be shared.
"""

from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.core.credential_cache import CredentialKey, ResolveRequest
from gateway.core.placeholders import Placeholders
from gateway.core.request_limit import RequestLimit
from sallyport.destination import Destination
from sallyport.plan.match import Matcher
from sallyport.plan.model import AwsSigv4Injection, CompiledRuntimePlan, CredentialResolver, EgressRoute, QueryInjection
from sallyport.wire.http1.shape import field_name

if TYPE_CHECKING:
    from gateway.core.decision import Classified
    from gateway.core.inject.prepare import Injection

# C1: where clients put keys of their own. A foreign key never rides along with ours.
AUTH_SLOTS: Final = frozenset({b"authorization", b"x-api-key", b"api-key", b"private-token", b"cookie"})

# By these some frameworks act on another method or path than the request's, which is what the plan was asked about.
OVERRIDES: Final = frozenset(
    {b"x-http-method", b"x-http-method-override", b"x-method-override", b"x-original-url", b"x-rewrite-url"}
)

# A wildcard route may be asked for many hosts; the memo of their upstreams starts over when full.
MAX_UPSTREAMS_PER_ROUTE: Final = 1024


class PoolKey(NamedTuple):
    """Two requests may share a link only if all of this is equal (C12).

    owner is ("connections", sorted connection ids) or, where no credential is carried, ("sandbox", its id). The TLS
    identity is not among the parts: a gateway has one trust store and no client certificates.
    """

    organization_id: str
    owner: tuple[str, ...]
    scheme: str
    host: str
    port: int


class RouteUpstream(NamedTuple):
    """Where a request goes and how its head begins after the target."""

    destination: Destination
    host_line: bytes
    pool_key: PoolKey


class InjectRoute:
    """A route, compiled: the decision to inject."""

    __slots__ = (
        "_upstreams",
        "additional_names",
        "allow_cleartext",
        "binding_id",
        "connection_ids",
        "credentials",
        "injection",
        "is_signed",
        "labels",
        "limit",
        "link_owner",
        "max_body_bytes",
        "organization_id",
        "placeholders",
        "prepared",
        "removed",
        "rule_id",
        "signing",
        "static_block",
        "strip_query",
        "upstream",
    )

    # The Injection of the credentials in use, kept by the shell so that a request only looks it up. Where each request
    # is signed it is `signing`, and `prepared` stays None: no other request is ever asked whether it is to be signed.
    prepared: "Injection | None"
    signing: "Injection | None"

    def __init__(self, plan: CompiledRuntimePlan, route: EgressRoute) -> None:
        self.rule_id = route.egress_rule_id
        self.binding_id = route.binding_id
        self.organization_id = plan.organization_id
        self.allow_cleartext = bool(route.allow_cleartext)
        self.injection = route.auth_injection
        extra = route.additional_credential_headers or ()
        resolvers = (route.credential_resolver, *(header.credential_resolver for header in extra))
        self.credentials = tuple(_resolve_request(plan, route, resolver) for resolver in resolvers)
        self.connection_ids = tuple(sorted({resolver.connection_id for resolver in resolvers}))
        self.link_owner = ("connections", *self.connection_ids)
        self.labels = (self.rule_id, self.binding_id, resolvers[0].connection_id)
        self.additional_names = tuple(header.header.encode("ascii") for header in extra)
        static = route.additional_headers or {}
        self.static_block = b"".join(
            b"%b: %b\r\n" % (name.encode("ascii"), value.encode("latin-1")) for name, value in static.items()
        )
        kept = {field_name(name.encode("ascii")) for name in route.keep_headers or ()}
        written = {field_name(name.encode("ascii")) for name in route.injected_headers}
        self.removed = frozenset(((AUTH_SLOTS | OVERRIDES) - kept) | written)
        self.strip_query = frozenset(_stripped_parameters(route))
        # The longest first: one may be the beginning of another.
        self.placeholders = tuple(
            (placeholder.value.encode("utf-8"), frozenset(placeholder.parts))
            for placeholder in sorted(route.placeholders or (), key=lambda placeholder: -len(placeholder.value))
        )
        self.upstream = None if route.upstream is None else route.upstream.destination
        limits = route.limits
        self.max_body_bytes = None if limits is None else limits.max_request_body_bytes
        self.limit: RequestLimit | None = None
        if limits is not None and (limits.requests_per_minute or limits.max_concurrent):
            self.limit = RequestLimit(per_minute=limits.requests_per_minute, max_concurrent=limits.max_concurrent)
        self.is_signed = isinstance(route.auth_injection, AwsSigv4Injection)
        self.prepared = self.signing = None
        self._upstreams: dict[Destination, RouteUpstream] = {}

    def upstream_for(self, asked: Destination) -> RouteUpstream:
        """Return the upstream of a request to this destination: the route's own, or the destination itself."""
        found = self._upstreams.get(asked)
        if found is None:
            destination = self.upstream or asked
            found = make_upstream(destination, self.organization_id, self.link_owner)
            if len(self._upstreams) >= MAX_UPSTREAMS_PER_ROUTE:
                self._upstreams.clear()
            self._upstreams[asked] = found
        return found

    def __repr__(self) -> str:
        return f"<InjectRoute {self.rule_id}>"


class RouteTable:
    """One revision of one sandbox's plan, compiled. Replaced whole, never changed once it is in force."""

    __slots__ = (
        "_placeholders",
        "binding_ids",
        "classified",
        "digest",
        "has_placeholders",
        "link_owner",
        "matcher",
        "names_hosts",
        "organization_id",
        "plan",
        "revision",
        "routes",
        "sandbox_id",
        "sandbox_limit",
    )

    def __init__(self, plan: CompiledRuntimePlan) -> None:
        self.plan = plan
        self.sandbox_id = plan.sandbox_id
        self.organization_id = plan.organization_id
        self.link_owner = ("sandbox", plan.sandbox_id)
        self.revision = plan.revision
        self.digest = plan.digest
        # What gateway.core.classify has decided already; a memory, not a part of the value.
        self.classified: dict[tuple[Destination, str, bytes], Classified] = {}
        # The operator's, kept here so that a request that has its table has it too.
        self.sandbox_limit: RequestLimit | None = None
        self.matcher = Matcher(plan)
        # Whether any rule or route speaks of hosts: then bytes that name none are not let through to an address (A1).
        self.names_hosts = bool(plan.egress_routes) or any(
            str(pattern) != "*" for rule in plan.egress.rules for pattern in rule.hosts
        )
        self.routes = {route.egress_rule_id: InjectRoute(plan, route) for route in plan.egress_routes}
        self.binding_ids = frozenset(route.binding_id for route in self.routes.values())
        self._placeholders = Placeholders({value for route in self.routes.values() for value, _ in route.placeholders})
        self.has_placeholders = bool(self._placeholders)

    def succeed(self, before: "RouteTable") -> None:
        """Go on counting where the table before left off: a new revision gives no request away."""
        self.sandbox_limit = before.sandbox_limit
        for rule_id, route in self.routes.items():
            known = before.routes.get(rule_id)
            if known is not None and known.limit is not None and route.limit is not None:
                route.limit = known.limit if known.limit.terms == route.limit.terms else route.limit

    def holds_placeholder(self, block: bytes) -> bool:
        """Say whether a placeholder of any route stands in block (C5)."""
        return self._placeholders.stand_in(block)

    def forward_upstream(self, destination: Destination) -> RouteUpstream:
        """Return the upstream of a request that is only forwarded; its links belong to the sandbox alone."""
        return make_upstream(destination, self.organization_id, self.link_owner)

    def __repr__(self) -> str:
        return f"<RouteTable {self.sandbox_id} revision {self.revision}: {len(self.routes)} routes>"


def make_upstream(destination: Destination, organization_id: str, owner: tuple[str, ...]) -> RouteUpstream:
    """Put together what a request to destination needs."""
    return RouteUpstream(
        destination,
        b" HTTP/1.1\r\nHost: " + destination.authority.encode("ascii"),
        PoolKey(organization_id, owner, destination.scheme, destination.host, destination.port),
    )


def _resolve_request(plan: CompiledRuntimePlan, route: EgressRoute, resolver: CredentialResolver) -> ResolveRequest:
    key = CredentialKey(
        organization_id=plan.organization_id,
        sandbox_id=plan.sandbox_id,
        binding_id=route.binding_id,
        connection_id=resolver.connection_id,
        secret_type=resolver.secret_type,
        slot_key=resolver.slot_key,
        resolver_key=resolver.resolver_key,
    )
    return ResolveRequest(key, plan.revision, route.egress_rule_id)


def _stripped_parameters(route: EgressRoute) -> list[str]:
    own = [route.auth_injection.parameter] if isinstance(route.auth_injection, QueryInjection) else []
    return [*own, *(route.strip_query or ())]
