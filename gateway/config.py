"""The gateway's settings: each with its bounds, its meaning and its reason. The only reader of the environment.

`read_config` turns the YAML file of `sallyport gateway --config` and the SALLYPORT_* variables into one frozen
value, or raises ConfigError with every fault. docs/settings.md has a row for each setting; a test compares.
No secret stands here: `credentials` says where each is to be found.
"""

# ruff: noqa: RUF009  setting() and its kin are dataclasses.field by another name

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Final

from gateway.setting_kinds import (
    AUDIT_PATH,
    AUDIT_STDOUT,
    CONNECT_TO,
    CREDENTIAL,
    LISTEN,
    NETWORK,
    PATTERN,
    PROXY,
    CredentialPlace,
    HostPort,
)
from gateway.settings_file import read_yaml
from sallyport.host import HostPattern
from sallyport.settings import (
    FLAG,
    PATH,
    TEXT,
    ConfigError,
    NamedSetting,
    Reader,
    choice,
    count,
    describe,
    duration,
    optional_setting,
    section,
    setting,
    setting_list,
    setting_map,
    size,
)

PREFIX: Final = "SALLYPORT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """Where the gateway listens."""

    proxy: HostPort = setting(
        LISTEN, "127.0.0.1:3128", "The explicit proxy that sandboxes use.", "Squid's port, which clients expect."
    )
    admin: HostPort = setting(
        LISTEN, "127.0.0.1:9900", "Health, metrics and administration.", "Loopback only: it can change plans."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Who may speak for a sandbox. Exactly one of public_key and jwks is needed."""

    public_key: Path | None = optional_setting(
        PATH, "The Ed25519 public key (PEM) that proxy tokens are signed for.", "`sallyport token keygen` writes it."
    )
    jwks: Path | None = optional_setting(
        PATH, "A JSON Web Key Set instead of one key.", "Two keys at once let the signer rotate."
    )
    issuer: str = setting(TEXT, "sallyport", "The `iss` that tokens must carry.", "What the control plane writes.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Interception:
    """Where TLS of managed hosts ends on the explicit listener."""

    ca_dir: Path = setting(
        PATH,
        "interception-ca",
        "Holds each sandbox's CA, `<sandboxId>.pem` and `.key`, made on first use.",
        "Beside the settings; only the gateway's user may read it.",
    )
    passthrough_hosts: tuple[HostPattern, ...] = setting_list(
        PATTERN,
        "Managed hosts left opaque, without credential, where the plan's managedPassthrough allows it.",
        "For clients that pin certificates or speak only HTTP/2.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """How destinations are reached."""

    ca_file: Path | None = optional_setting(
        PATH, "A PEM bundle of roots to trust instead of the system's.", "For origins with a private CA."
    )
    connect_to: Mapping[HostPort, HostPort] = setting_map(
        CONNECT_TO,
        "Dial another address for a host and port; the name that TLS verifies stays.",
        "As curl's --connect-to; the address policy applies to the right side.",
    )
    proxy: HostPort | None = optional_setting(
        PROXY,
        "An HTTP proxy that every upstream link goes through, by CONNECT.",
        "Explicit only: HTTP_PROXY of the gateway's own environment is ignored.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Exceptions to the address policy."""

    allow: tuple[IPv4Network | IPv6Network, ...] = setting_list(
        NETWORK,
        "Private or otherwise refused networks that sandboxes may reach.",
        "Empty: only public addresses, so that a name cannot be pointed inwards.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrub:
    """The net against secrets that come back in answers."""

    enabled: bool = setting(
        FLAG, "true", "Look for injected secrets in answers and blank them.", "An origin may echo what it was sent."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """One JSON line per exchange (docs/operations/audit.md)."""

    path: str = setting(AUDIT_PATH, AUDIT_STDOUT, "Where audit records go.", "Containers collect standard output.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """The gateway's own log, on standard error."""

    level: str = setting(
        choice("debug", "info", "warning", "error"), "info", "The least severe event written.", "One line per change."
    )
    format: str = setting(
        choice("json", "console"), "json", "How events are written.", "Collectors read JSON; people read console."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long the gateway waits; each ends in a named error."""

    head: float = setting(
        duration("100ms", "5m"),
        "10s",
        "From a request head's first byte to its last: 408.",
        "A head is one packet; slower is Slowloris.",
    )
    handshake: float = setting(
        duration("100ms", "2m"), "10s", "A TLS handshake, on either side.", "Two round trips, with room for loss."
    )
    client_hello: float = setting(
        duration("10ms", "30s"),
        "1s",
        "The first bytes after a CONNECT that passes through; none by then: opaque.",
        "Protocols in which the server speaks first must not wait long.",
    )
    keep_alive: float = setting(
        duration("1s", "1h"), "75s", "An idle downstream stream between requests.", "nginx keepalive_timeout: 75 s."
    )
    request_body: float = setting(
        duration("1s", "1h"), "60s", "No progress in a request body: 408.", "nginx client_body_timeout: 60 s."
    )
    connect: float = setting(
        duration("100ms", "2m"),
        "10s",
        "Reaching an upstream address, all attempts together: 502.",
        "Three SYNs; agents retry sooner than a person.",
    )
    resolve: float = setting(
        duration("100ms", "1m"), "5s", "Resolving a name: 502.", "resolv.conf: 5 s before the next server."
    )
    answer_head: float = setting(
        duration("1s", "1h"), "300s", "From the end of a request to its answer's head: 504.", "Language models think."
    )
    answer_body: float = setting(
        duration("1s", "1h"), "300s", "No progress in an answer body.", "Event streams pause between tokens."
    )
    pool_idle: float = setting(
        duration("1s", "10m"),
        "60s",
        "An idle upstream link is closed after this.",
        "Below the 75 s after which many origins close, so that a link is rarely found dead.",
    )
    credential: float = setting(
        duration("100ms", "2m"), "10s", "Resolving a credential, retries included: 503.", "One OAuth refresh."
    )
    opaque_idle: float = setting(
        duration("1s", "1d"),
        "15m",
        "A passed-through or upgraded stream without a byte either way.",
        "Longer than the keep-alive of SSH, WebSocket and database clients.",
    )
    drain: float = setting(
        duration("0s", "1h"), "30s", "How long open exchanges may finish after SIGTERM.", "Kubernetes' grace period."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much the gateway takes; each is a security limit."""

    head_bytes: int = setting(
        size("4KiB", "1MiB"), "64KiB", "A request or answer head: 431, or 502.", "Node: 16 KiB, Tomcat: 8; tokens grow."
    )
    header_count: int = setting(count(16, 1000), "128", "Header fields of one head: 431.", "Apache: 100.")
    open_streams: int = setting(
        count(1, 1_000_000), "10000", "Downstream streams of the process: 503.", "Two descriptors each; see ulimit -n."
    )
    streams_per_sandbox: int = setting(
        count(1, 100_000), "1024", "Downstream streams of one sandbox: 503.", "The same limit as a tunnel's."
    )
    links_per_key: int = setting(
        count(1, 10_000),
        "256",
        "Upstream links of one pool key.",
        "Go's MaxConnsPerHost is unlimited; origins are not.",
    )
    idle_links_per_key: int = setting(
        count(0, 10_000),
        "256",
        "Idle upstream links kept for one pool key.",
        "As many as may be open: closing one means dialling the next.",
    )
    write_buffer_bytes: int = setting(
        size("16KiB", "16MiB"),
        "256KiB",
        "Bytes waiting for a slow peer before its other side is paused.",
        "One bandwidth-delay product of 20 Mbit/s at 100 ms.",
    )
    interim_answers: int = setting(
        count(0, 100), "8", "1xx answers relayed for one request; more: 502.", "100, 103 and a few 102s."
    )
    pipelined_bytes: int = setting(
        size("4KiB", "1MiB"), "64KiB", "Bytes of later requests held while one is served.", "One head's limit."
    )
    leaf_contexts: int = setting(
        count(16, 100_000),
        "1024",
        "TLS contexts of intercepted hosts kept ready.",
        "An OpenSSL context takes tens of KiB.",
    )
    token_cache_entries: int = setting(
        count(16, 10_000_000), "65536", "Verified tokens remembered.", "A verification costs fifty times a look-up."
    )
    credential_cache_entries: int = setting(
        count(16, 10_000_000), "65536", "Credentials held in memory.", "What was resolved longest ago goes first."
    )
    resolver_cache_entries: int = setting(
        count(16, 1_000_000), "4096", "Resolved names remembered.", "One slow resolver must not stall every dial."
    )
    dial_attempts: int = setting(
        count(1, 16), "4", "Addresses of one name tried for one dial.", "Two of each family (RFC 8305)."
    )
    audit_records: int = setting(
        count(256, 10_000_000),
        "65536",
        "Audit records waiting to be written; more are dropped and counted.",
        "Two seconds at 30,000 requests a second.",
    )
    plan_bytes: int = setting(
        size("4KiB", "2MiB"), "2MiB", "A plan document: 413.", "The contract's own limit, which it cannot exceed."
    )
    sandboxes: int = setting(
        count(1, 1_000_000), "10000", "Plans held at once: 503.", "Bounds memory when plans are pushed by mistake."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """Everything a gateway can be told."""

    listen: Listen = section(Listen)
    plans: tuple[Path, ...] = setting_list(
        PATH, "Compiled plans loaded at start.", "Others come by PUT on the admin listener."
    )
    credentials: Mapping[tuple[str, ...], CredentialPlace] = setting_map(
        CREDENTIAL,
        "Where each credential is read from; the most specific entry wins.",
        "The secret itself is never part of the settings.",
    )
    tokens: Tokens = section(Tokens)
    interception: Interception = section(Interception)
    upstream: Upstream = section(Upstream)
    network: Network = section(Network)
    scrub: Scrub = section(Scrub)
    audit: Audit = section(Audit)
    log: Log = section(Log)
    timeouts: Timeouts = section(Timeouts)
    limits: Limits = section(Limits)


def load_config(document: Mapping[str, object], environ: Mapping[str, str], base_dir: Path) -> GatewayConfig:
    """Check a parsed document and the environment; raise ConfigError with every fault."""
    reader = Reader(environ, base_dir, PREFIX)
    config = reader.read(GatewayConfig, document)
    _check_together(config, reader)
    if reader.issues:
        raise ConfigError(reader.issues)
    return config


def read_config(path: Path, environ: Mapping[str, str]) -> GatewayConfig:
    """Read a YAML file and the environment; raise ConfigError with every fault."""
    return load_config(read_yaml(path), environ, path.absolute().parent)


def process_environment() -> Mapping[str, str]:
    """Return the environment of this process, for whoever starts a gateway."""
    return os.environ


def describe_settings() -> Iterator[NamedSetting]:
    """Yield every setting with its names, bounds, meaning and reason."""
    return describe(GatewayConfig, PREFIX)


def _check_together(config: GatewayConfig, reader: Reader) -> None:
    if not _is_loopback(config.listen.admin.host):
        reader.fault(
            "/listen/admin",
            "the admin listener can change plans, and off loopback it needs TLS and a service token, which do not "
            "exist yet; write 127.0.0.1:9900 and reach it through a tunnel of your own",
        )
    if config.listen.proxy == config.listen.admin and config.listen.proxy.port != 0:
        reader.fault("/listen/admin", "is the same as /listen/proxy; give one of them another port")
    if (config.tokens.public_key is None) == (config.tokens.jwks is None) and not _has_fault(reader, "tokens"):
        reader.fault(
            "/tokens", "write either public_key or jwks, a file; `sallyport token keygen` makes a pair of keys"
        )
    if config.limits.idle_links_per_key > config.limits.links_per_key:
        reader.fault("/limits/idle_links_per_key", "is more than links_per_key; lower it")
    if config.limits.streams_per_sandbox > config.limits.open_streams:
        reader.fault("/limits/streams_per_sandbox", "is more than open_streams; lower it")


def _has_fault(reader: Reader, name: str) -> bool:
    # A token setting that was refused has been told already; its absence is not a second fault.
    starts = (f"/{name}", f"{PREFIX}_{name.upper()}_")
    return any(issue.pointer.startswith(starts) for issue in reader.issues)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
