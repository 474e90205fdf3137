"""The gateway's settings: each with its bounds, its meaning and its reason. The only reader of the environment.

`read_config` turns the YAML file of `sallyport gateway --config` and the SALLYPORT_* variables into one frozen
value, or raises ConfigError with every fault. docs/settings.md has a row for each setting; a test compares.
No secret stands here: `credentials` says where each is to be found.
"""

# ruff: noqa: RUF009  setting() and its kin are dataclasses.field by another name

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Final

from gateway.core.request_limit import RequestLimit
from gateway.setting_kinds import (
    AUDIT_PATH,
    AUDIT_STDOUT,
    CONNECT_TO,
    CREDENTIAL,
    LISTEN_OR_OFF,
    MEMORY,
    PROXY,
    CredentialPlace,
)
from sallyport.host import HostPattern, is_loopback
from sallyport.net.listener_tls import ListenerTls
from sallyport.net.log import Log
from sallyport.net.setting_kinds import BASE_URL, LISTEN, NETWORK, PART_ID, PATTERN, HostPort
from sallyport.net.yaml_file import read_yaml
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
    or_off,
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
    tunnel: HostPort | None = setting(
        LISTEN_OR_OFF,
        "127.0.0.1:8443",
        "Where the sandboxds of sandboxes come with their tunnels.",
        "Loopback until `tunnel.tls` names a certificate.",
    )
    admin: HostPort = setting(
        LISTEN,
        "127.0.0.1:9900",
        "Health, metrics and administration.",
        "It can change plans: loopback until `admin.tls` names a certificate.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelSettings:
    """How tunnels are accepted."""

    tls: ListenerTls = section(ListenerTls)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminSettings:
    """Who may administer: without TLS what is on this machine, with it whoever has a service token for gateways."""

    tls: ListenerTls = section(ListenerTls)


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
class Control:
    """Where plans, keys, credentials and revocations come from; without `url` the gateway stands alone."""

    url: str | None = optional_setting(
        BASE_URL, "Where the control plane answers.", "Instead of `plans`, `credentials` and keys in files."
    )
    token_file: Path | None = optional_setting(
        PATH, "The service token this gateway speaks with.", "Read again whenever it changes, so it can be rotated."
    )
    ca_file: Path | None = optional_setting(
        PATH, "A PEM bundle of roots to trust for it instead of the system's.", "For a control plane with a private CA."
    )
    gateway_id: str | None = optional_setting(
        PART_ID, "This gateway's name in lease reports, different for each replica.", "A host name or a pod's name."
    )
    admin_url: str | None = optional_setting(
        BASE_URL, "Where others reach this gateway's admin listener.", "On loopback: by default where it listens."
    )
    state_dir: Path = setting(
        PATH,
        "gateway-state",
        "Holds the last good plans, keys and revocations for a restart without the control plane; never credentials.",
        "Only the gateway's user may use it.",
    )
    max_stale: float = setting(
        duration("1s", "7d"),
        "1h",
        "How long what is known serves on while the control plane is away; then 503 `plan_unavailable`.",
        "Long enough to repair a control plane, short enough that nobody forgets it.",
    )


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
    unscannable: str = setting(
        choice("pass", "refuse"),
        "pass",
        "What becomes of an answer whose coding cannot be undone (br, zstd, part of a gzip): refused, it is a 502.",
        "None was asked for; an origin that sends one all the same still works, and is counted.",
    )

    @property
    def lets_unscannable_pass(self) -> bool:
        """Whether an answer that cannot be searched is passed on."""
        return self.unscannable == "pass"


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """One JSON line per exchange (docs/operations/audit.md)."""

    path: str = setting(AUDIT_PATH, AUDIT_STDOUT, "Where audit records go.", "Containers collect standard output.")


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
    plan: float = setting(
        duration("100ms", "1m"),
        "5s",
        "A request whose plan or interception CA is on its way from the control plane: 503.",
        "Two requests and a retry; clients wait longer.",
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
    header_count: int = setting(
        count(16, 1000),
        "128",
        "Header fields of a request or answer head: 431, or 502. "
        "More than 64 options in all of its `Connection` lines: 400, or 502.",
        "Apache: 100.",
    )
    open_streams: int = setting(
        count(1, 1_000_000),
        "10000",
        "Downstream streams of the process that a token was shown for, tunnels among them: 503.",
        "Two descriptors each; see ulimit -n.",
    )
    anonymous_streams: int = setting(
        count(1, 1_000_000),
        "5000",
        "Downstream streams beside these that no token was shown for yet; one more resets the oldest.",
        "More than wait to be accepted: after a restart all sandboxes come at once. At most a quarter of ulimit -n.",
    )
    streams_per_sandbox: int = setting(
        count(1, 100_000),
        "1024",
        "Downstream streams of one sandbox, its tunnel apart: 503.",
        "The same limit as a tunnel's.",
    )
    sandbox_requests_per_minute: int | None = setting(
        or_off(count(1, 10_000_000)),
        "off",
        "Requests of one sandbox a minute, CONNECTs among them: 429.",
        "How much a busy agent asks is its operator's to know.",
    )
    sandbox_burst: int | None = setting(
        or_off(count(1, 10_000_000)),
        "off",
        "How many of these may come at once.",
        "Off: a minute's worth, as for a route.",
    )
    sandbox_concurrent_requests: int | None = setting(
        or_off(count(1, 100_000)),
        "off",
        "Requests of one sandbox under way at once: 429.",
        "A stream carries one at a time, so `streams_per_sandbox` bounds them.",
    )
    request_body_bytes: int | None = setting(
        or_off(size("1KiB", "1024GiB")),
        "off",
        "A request body, where the plan does not set less: 413.",
        "Bodies pass through and are not kept, and repositories are large.",
    )
    signed_body_bytes: int = setting(
        size("1KiB", "64MiB"),
        "8MiB",
        "A request body that is kept to be signed, because the request does not tell its hash: 413.",
        "The part size of AWS's own clients; their object uploads tell the hash.",
    )
    links_per_key: int = setting(
        count(1, 10_000),
        "256",
        "Upstream links of one pool key; of those of a connection no sandbox holds more than it leaves to others.",
        "Go's MaxConnsPerHost is unlimited; origins are not.",
    )
    idle_links_per_key: int = setting(
        count(0, 10_000),
        "256",
        "Idle upstream links kept for one pool key.",
        "As many as may be open: closing one means dialling the next.",
    )
    links_per_owner: int = setting(
        count(1, 1_000_000),
        "2048",
        "Upstream links of one sandbox, or of one connection (shared alike), to all destinations; idle ones make room.",
        "Twice its streams: whoever asks a new host each time keeps no others from descriptors.",
    )
    write_buffer_bytes: int = setting(
        size("16KiB", "16MiB"),
        "64KiB",
        "Bytes waiting for a slow peer before its other side is paused.",
        "asyncio's own; the streams of one sandbox together hold no more of it than `sandbox_backlog_bytes`.",
    )
    sandbox_backlog_bytes: int = setting(
        size("1MiB", "64GiB"),
        "64MiB",
        "Bytes of one sandbox, both ways, that wait for slow peers; over it no answer or body is begun to be read.",
        "Two hundred streams of one read each: who does not read waits, and nobody else.",
    )
    tunnel_buffer_bytes: int = setting(
        size("1MiB", "64GiB"),
        "256MiB",
        "Bytes held for streams of all tunnels that do not take them; over it the largest is reset.",
        "64 windows of 4 MiB.",
    )
    sandbox_buffer_bytes: int = setting(
        size("256KiB", "64GiB"),
        "64MiB",
        "Of these, for one tunnel; over it no stream of it gets credit, then its largest is reset."
        " As much again for a sandbox's bodies that are kept to be signed: 503.",
        "A quarter: who takes nothing must not hold up all the others.",
    )
    splices: int = setting(
        count(0, 10_000),
        "128",
        "Directions of passed-through streams that the kernel moves by itself at once; the others are relayed.",
        "Four descriptors each; their pipes of 256 KiB are half of what Linux lets a user have.",
    )
    interim_answers: int = setting(
        count(0, 100), "8", "1xx answers relayed for one request; more: 502.", "100, 103 and a few 102s."
    )
    pipelined_bytes: int = setting(
        size("4KiB", "1MiB"), "64KiB", "Bytes of later requests held while one is served.", "One head's limit."
    )
    memory: int | str = setting(
        MEMORY,
        "cgroup",
        "Resident memory of a process; over it those who hold most are reset and begin nothing: 503.",
        "Four fifths of the cgroup's limit, shared by the processes: shedding is better than being killed.",
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
    credential_fetches: int = setting(
        count(1, 256),
        "16",
        "Credentials being fetched at once; others wait.",
        "Half the links to a control plane: the others are for plans and leases.",
    )
    credential_fetches_per_sandbox: int = setting(
        count(1, 256), "4", "Of these, for one sandbox.", "Whose credentials are slow must not hold up the others."
    )
    resolver_cache_entries: int = setting(
        count(16, 1_000_000), "4096", "Resolved names remembered.", "One slow resolver must not stall every dial."
    )
    lookups: int = setting(
        count(1, 256),
        "16",
        "Names being resolved at once; others wait.",
        "A thread each: the system's resolver blocks.",
    )
    lookups_per_sandbox: int = setting(
        count(1, 256), "4", "Of these, for one sandbox.", "Whose names are slow must not hold up the others."
    )
    dial_attempts: int = setting(
        count(1, 16), "4", "Addresses of one name tried for one dial.", "Two of each family (RFC 8305)."
    )
    audit_records: int = setting(
        count(256, 10_000_000),
        "65536",
        "Audit records waiting to be written; more are dropped and counted.",
        "Two seconds at 30,000 requests a second; 3 KB each at most, for long paths are cut.",
    )
    denials: int = setting(
        count(1, 1_000_000),
        "10000",
        "Denials kept in memory for `/v1/denials`, of all sandboxes; the oldest go first.",
        "Some 10 MB; the audit log has all of them.",
    )
    denials_per_sandbox: int = setting(
        count(0, 10_000), "100", "Of these, of one sandbox; 0 keeps none.", "What an agent did wrong lately."
    )
    plan_bytes: int = setting(
        size("4KiB", "2MiB"), "2MiB", "A plan document: 413.", "The contract's own limit, which it cannot exceed."
    )
    sandboxes: int = setting(
        count(1, 1_000_000), "10000", "Plans held at once: 503.", "Bounds memory when plans are pushed by mistake."
    )

    def of_sandbox(self) -> RequestLimit | None:
        """Make the limit on the requests of one sandbox, where there is one."""
        per_minute, at_once = self.sandbox_requests_per_minute, self.sandbox_concurrent_requests
        if per_minute is None and at_once is None:
            return None
        return RequestLimit(per_minute=per_minute, max_concurrent=at_once, burst=self.sandbox_burst)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """Everything a gateway can be told."""

    listen: Listen = section(Listen)
    admin: AdminSettings = section(AdminSettings)
    workers: int = setting(
        count(1, 64),
        "1",
        "Processes that serve; with more than one, another that owns the admin listener and the watch stream.",
        "One event loop uses one core.",
    )
    plans: tuple[Path, ...] = setting_list(
        PATH, "Compiled plans loaded at start.", "Others come by PUT on the admin listener."
    )
    credentials: Mapping[tuple[str, ...], CredentialPlace] = setting_map(
        CREDENTIAL,
        "Where each credential is read from; the most specific entry wins.",
        "The secret itself is never part of the settings.",
    )
    tunnel: TunnelSettings = section(TunnelSettings)
    control: Control = section(Control)
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


def read_config(path: Path, environ: Mapping[str, str], base_dir: Path | None = None) -> GatewayConfig:
    """Read a YAML file and the environment; raise ConfigError with every fault.

    Relative paths start at base_dir, or at the file's folder.
    """
    return load_config(read_yaml(path), environ, base_dir or path.absolute().parent)


def process_environment() -> Mapping[str, str]:
    """Return the environment of this process, for whoever starts a gateway."""
    return os.environ


def describe_settings() -> Iterator[NamedSetting]:
    """Yield every setting with its names, bounds, meaning and reason."""
    return describe(GatewayConfig, PREFIX)


def _check_together(config: GatewayConfig, reader: Reader) -> None:
    if config.listen.proxy == config.listen.admin and config.listen.proxy.port != 0:
        reader.fault("/listen/admin", "is the same as /listen/proxy; give one of them another port")
    if config.control.url is not None:
        _check_controlled(config, reader)
    elif config.control.token_file is not None or config.control.gateway_id is not None:
        reader.fault("/control/url", "is missing; write where the control plane answers, or remove the other settings")
    elif (config.tokens.public_key is None) == (config.tokens.jwks is None) and not _has_fault(reader, "tokens"):
        reader.fault(
            "/tokens", "write either public_key or jwks, a file; `sallyport token keygen` makes a pair of keys"
        )
    _check_admin(config, reader)
    _check_tunnel(config, reader)
    if config.limits.idle_links_per_key > config.limits.links_per_key:
        reader.fault("/limits/idle_links_per_key", "is more than links_per_key; lower it")
    if config.limits.credential_fetches_per_sandbox > config.limits.credential_fetches:
        reader.fault("/limits/credential_fetches_per_sandbox", "is more than credential_fetches; lower it")
    if config.limits.lookups_per_sandbox > config.limits.lookups:
        reader.fault("/limits/lookups_per_sandbox", "is more than lookups; lower it")
    if config.limits.sandbox_burst is not None and config.limits.sandbox_requests_per_minute is None:
        reader.fault("/limits/sandbox_burst", "means nothing without sandbox_requests_per_minute; write that too")
    if config.limits.streams_per_sandbox > config.limits.open_streams:
        reader.fault("/limits/streams_per_sandbox", "is more than open_streams; lower it")


def _check_controlled(config: GatewayConfig, reader: Reader) -> None:
    """With a control plane nothing it provides may also be given here: nobody could say which of the two holds."""
    is_told = _has_fault(reader, "control")
    for name, why in (("token_file", "the file of this gateway's service token"), ("gateway_id", "its own name")):
        if getattr(config.control, name) is None and not is_told:
            reader.fault(f"/control/{name}", f"is missing; write {why}")
    given = {
        "/plans": config.plans,
        "/credentials": config.credentials,
        "/tokens/public_key": config.tokens.public_key,
        "/tokens/jwks": config.tokens.jwks,
    }
    for pointer, value in given.items():
        if value:
            reader.fault(pointer, "comes from the control plane; remove it, or remove /control")


def _check_admin(config: GatewayConfig, reader: Reader) -> None:
    is_abroad = not is_loopback(config.listen.admin.host)
    if config.admin.tls.is_whole(reader, "/admin/tls") and is_abroad and not config.admin.tls.is_given:
        reader.fault(
            "/listen/admin", "it can change plans, so off loopback it needs admin.tls; or write 127.0.0.1:9900"
        )
    if is_abroad and config.control.url is not None and config.control.admin_url is None:
        # The address it listens on is mostly 0.0.0.0, and no certificate is for that.
        reader.fault("/control/admin_url", "is missing; write the https:// name that the certificate of admin.tls has")


def _check_tunnel(config: GatewayConfig, reader: Reader) -> None:
    tunnel, tls = config.listen.tunnel, config.tunnel.tls
    if tls.is_whole(reader, "/tunnel/tls") and tunnel is not None and not tls.is_given and not is_loopback(tunnel.host):
        reader.fault("/listen/tunnel", "off loopback tunnels need TLS; write tunnel.tls, or 127.0.0.1:8443, or off")
    for name, other in (("proxy", config.listen.proxy), ("admin", config.listen.admin)):
        if tunnel == other and other.port != 0:
            reader.fault("/listen/tunnel", f"is the same as /listen/{name}; give one of them another port")


def _has_fault(reader: Reader, name: str) -> bool:
    # A token setting that was refused has been told already; its absence is not a second fault.
    starts = (f"/{name}", f"{PREFIX}_{name.upper()}_")
    return any(issue.pointer.startswith(starts) for issue in reader.issues)
