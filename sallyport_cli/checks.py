"""What the doctor looks at without sending a credential anywhere: settings, plans, credentials, clock, variables."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cryptography import x509

from control_client.gateway import GatewayError, fetch_ca
from sallyport.address_policy import AddressPolicy
from sallyport.destination import DEFAULT_PORTS
from sallyport.host import HostPatternKind
from sallyport.net.dial import Dialer
from sallyport.net.dial_error import DialError
from sallyport.net.resolve import Resolver
from sallyport.trust_env import REMOVED, variables
from sallyport_cli.finding import Finding, failed, ok, skipped, warning
from sallyport_cli.output import counted
from sallyport_cli.times import instant

if TYPE_CHECKING:
    from gateway.config import GatewayConfig
    from sallyport.plan.model import CompiledRuntimePlan, CredentialResolver, EgressRoute

PLAN = "plan"
CREDENTIALS = "credentials"
CLOCK = "clock"
SQLITE = "SQLite"
VARIABLES = "variables"
DIRECT = "direct ways out"
GATEWAY = "running gateway"

# A direct way out that takes longer than this is one that no program waits for.
DIRECT_SECONDS = 3.0
# When this was written. A clock before it is a machine that lost its time, and every certificate is not yet valid.
NO_EARLIER = 1_767_225_600  # 2026-01-01


def check_plans(paths: Sequence[Path], plans: "Sequence[CompiledRuntimePlan]") -> list[Finding]:
    """Say what the plans that could be read claim."""
    if not paths:
        return [skipped(PLAN, "the settings name no plan", "name one in `plans`, or give --plan")]
    return [
        ok(PLAN, f"{path}: sandbox {plan.sandbox_id}, {counted(len(plan.egress_routes), 'route')}")
        for path, plan in zip(paths, plans, strict=True)
    ]


def check_credentials(
    settings: "GatewayConfig", plans: "Sequence[CompiledRuntimePlan]", inherited: Mapping[str, str]
) -> list[Finding]:
    """Say whether each credential can be read, and whether each route has one. No value is shown."""
    from gateway.credentials import LocalCredentials

    found = [
        failed(CREDENTIALS, problem, "put the credential there, or correct `credentials`")
        for problem in LocalCredentials(settings.credentials, inherited).problems()
    ]
    known = set(settings.credentials)
    for plan in plans:
        for route in plan.egress_routes:
            for resolver in _resolvers(route):
                whole = (resolver.connection_id, resolver.secret_type, resolver.slot_key or "")
                if not any(whole[:length] in known for length in (1, 2, 3)):
                    seen = f"route {route.egress_rule_id} wants {resolver.connection_id}, which has no credential"
                    found.append(failed(CREDENTIALS, seen, f"name {resolver.connection_id} in `credentials`"))
    return found or [ok(CREDENTIALS, f"{len(known)} can be read, and every route has one")]


def check_clock(now: float, authorities: Iterable[tuple[str, x509.Certificate]]) -> Finding:
    """Say whether the time of this machine can be right, by what is known to have been made before."""
    if now < NO_EARLIER:
        return failed(CLOCK, f"the machine says {instant(now)}", "set its clock: no certificate is valid yet")
    for place, certificate in authorities:
        if certificate.not_valid_before_utc.timestamp() > now:
            return failed(CLOCK, f"{place} is not valid before {certificate.not_valid_before_utc}", "set the clock")
        if certificate.not_valid_after_utc.timestamp() < now:
            return failed(CLOCK, f"{place} has expired", "restart the gateway: it makes a new one, to be trusted anew")
    return ok(CLOCK, instant(now))


def stored_authorities(directory: Path) -> list[tuple[str, x509.Certificate]]:
    """Return the CA certificates a gateway has made so far; unreadable ones are the gateway's to report."""
    found = []
    for path in sorted(directory.glob("*.pem")):
        try:
            found.append((str(path), x509.load_pem_x509_certificate(path.read_bytes())))
        except (OSError, ValueError):
            continue
    return found


def check_sqlite() -> Finding:
    """Say whether a worker could keep its applications in SQLite here."""
    from worker.durable.sqlite import SqliteTooOld, usable_sqlite

    try:
        return ok(SQLITE, f"{usable_sqlite().sqlite_version}, which a worker can keep its applications in")
    except SqliteTooOld as error:
        # The gateway does not need it, and a worker on PostgreSQL neither.
        return warning(SQLITE, error.message, error.hint)


def check_variables(inherited: Mapping[str, str], proxy: str | None) -> list[Finding]:
    """Say whether the variables around this command lead through a gateway and name files that exist."""
    led = inherited.get("HTTPS_PROXY") or inherited.get("https_proxy")
    if led is None and proxy is None:
        return [skipped(VARIABLES, "none lead to a gateway here", "`sallyport run` and `sallyport env` set them")]
    expected = variables(proxy_url=led or "", ca_file="", bundle_file="")
    missing = [name for name in expected if not inherited.get(name)]
    found = []
    if missing:
        found.append(failed(VARIABLES, f"not set: {', '.join(missing)}", "take them all from `sallyport env`"))
    if led is not None and proxy is not None and _without_user(led) != _without_user(proxy):
        found.append(failed(VARIABLES, "HTTPS_PROXY leads elsewhere", "take it from `sallyport env --proxy`"))
    for name in (name for name, value in expected.items() if value == "" and inherited.get(name)):
        if not Path(inherited[name]).is_file():
            found.append(failed(VARIABLES, f"{name} names a file that is not there", "correct it, or write the file"))
    found += [
        failed(VARIABLES, f"{name} is set", f"unset {name}: it brings other roots than the bundle's")
        for name in REMOVED
        if name in inherited
    ]
    return found or [ok(VARIABLES, "all set, and their files exist")]


async def check_direct(plans: "Sequence[CompiledRuntimePlan]") -> Finding:
    """Try to reach one managed host past the gateway, as a program that ignores the variables would."""
    destination = _managed_destination(plans)
    if destination is None:
        return skipped(DIRECT, "no plan names a host to try")
    host, port = destination
    resolver = Resolver()
    everything = AddressPolicy(allow=(ip_network("0.0.0.0/0"), ip_network("::/0")))
    dialer = Dialer(
        everything, resolver, connect_timeout_seconds=DIRECT_SECONDS, resolve_timeout_seconds=DIRECT_SECONDS
    )
    try:
        transport, _ = await dialer.dial(host, port, asyncio.Protocol)
    except DialError as error:
        return ok(DIRECT, f"{host}:{port} cannot be reached past the gateway ({error.kind.value})")
    finally:
        resolver.close()
    transport.abort()
    remedy = "in the sandbox, let only the gateway's address out: a program without the variables meets no gateway"
    return warning(DIRECT, f"{host}:{port} can be reached from here without the gateway", remedy)


def check_gateway(proxy: str, token: str, now: float) -> Finding:
    """Ask a running gateway for the sandbox's CA: it answers, and takes the token."""
    try:
        certificate = x509.load_pem_x509_certificate(fetch_ca(_without_user(proxy), token))
    except (GatewayError, ValueError) as error:
        return failed(GATEWAY, str(error), "look at its address, at its log, and at the token's sandbox and expiry")
    if not certificate.not_valid_before_utc.timestamp() <= now < certificate.not_valid_after_utc.timestamp():
        return failed(GATEWAY, "its CA is not valid at this machine's time", "set both clocks")
    return ok(GATEWAY, f"takes the token; its CA is good until {instant(certificate.not_valid_after_utc.timestamp())}")


def _resolvers(route: "EgressRoute") -> "list[CredentialResolver]":
    return [
        route.credential_resolver,
        *(each.credential_resolver for each in route.additional_credential_headers or ()),
    ]


def _managed_destination(plans: "Sequence[CompiledRuntimePlan]") -> tuple[str, int] | None:
    """Return the first host that a route names exactly, with its port."""
    for plan in plans:
        for route in plan.egress_routes:
            for host in route.match.hosts:
                if host.kind is HostPatternKind.EXACT:
                    ports = route.match.ports or (DEFAULT_PORTS["https"],)
                    return host.value, ports[0]
    return None


def _without_user(proxy: str) -> str:
    """Return host:port of a proxy's URL, without what may be a token."""
    return urlsplit(proxy).netloc.rpartition("@")[2]
