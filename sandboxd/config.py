"""sandboxd's settings: each with its bounds, its meaning and its reason. The only reader of the environment.

There is no file: a sandbox's image sets variables. docs/settings.md has a row for each; a test compares.
"""

# ruff: noqa: RUF009  setting() and its kin are dataclasses.field by another name

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from sallyport.host import HostError, HostPattern, is_loopback, split_authority
from sallyport.net.setting_kinds import LISTEN, PATTERN, HostPort
from sallyport.settings import (
    PATH,
    ConfigError,
    Kind,
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
    size,
)

PREFIX: Final = "SALLYPORT"
_DEFAULT_PORTS: Final = {"ws": 80, "wss": 443}


class GatewayUrl(NamedTuple):
    """Where the gateway's tunnel listener is. `ws` is for loopback only: the token would travel in clear."""

    is_secure: bool
    host: str
    port: int

    @property
    def authority(self) -> str:
        """The Host of the upgrade."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{'wss' if self.is_secure else 'ws'}://{self.authority}"


def _parse_gateway(value: object, _: Path) -> GatewayUrl:
    parts = urlsplit(str(value))
    if parts.scheme not in _DEFAULT_PORTS or parts.path not in ("", "/", "/v1/tunnel") or parts.query or parts.fragment:
        raise ValueError(f"{value!r} is not a gateway; write wss://host:port, or ws://127.0.0.1:port on one machine")
    try:
        host, port = split_authority(parts.netloc, _DEFAULT_PORTS[parts.scheme])
    except HostError as error:
        raise ValueError(f"the host and port are refused: {error}") from None
    if parts.scheme == "ws" and not is_loopback(host):
        raise ValueError("ws:// is for loopback only, because a token would travel in clear; write wss://host:port")
    return GatewayUrl(parts.scheme == "wss", host, port)


def _parse_descriptor(value: object, _: Path) -> int:
    text = str(value)
    if not text.isascii() or not text.isdigit() or not 3 <= int(text) < 2**20:
        raise ValueError(f"{value!r} is not a descriptor; write the number of an inherited socket, from 3 on")
    return int(text)


DESCRIPTOR = Kind(_parse_descriptor, "numbers from 3 on")
GATEWAY = Kind(_parse_gateway, "wss://host[:port]; ws://host[:port] on loopback")


@dataclass(frozen=True, slots=True, kw_only=True)
class Interception:
    """What stays opaque though the plan would look at it."""

    passthrough_hosts: tuple[HostPattern, ...] = setting_list(
        PATTERN,
        "Managed hosts left opaque, without credential, where the plan's managedPassthrough allows it.",
        "For clients that pin certificates or speak only HTTP/2.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect:
    """Sockets in the network of a sandbox that whoever starts sandboxd has opened there and redirected to.

    With them sandboxd stands outside of its sandbox: it has no proxy listener, and what is to be done inside its deputy
    does, if there is to be one.
    """

    connections: tuple[int, ...] = setting_list(
        DESCRIPTOR,
        "Descriptors of bound TCP sockets that all connections of the sandbox are redirected to.",
        "Programs that know of no proxy are served, and nothing in the sandbox can reach sandboxd itself.",
    )
    questions: tuple[int, ...] = setting_list(
        DESCRIPTOR,
        "Descriptors of bound UDP sockets for the sandbox's DNS.",
        "A name is told by an address of its own.",
    )
    question_streams: tuple[int, ...] = setting_list(
        DESCRIPTOR, "The same for DNS by TCP.", "Some resolvers ask by TCP alone."
    )
    deputy: int | None = optional_setting(
        DESCRIPTOR,
        "Descriptor of a bound UNIX socket in the sandbox's network that its deputy comes to.",
        "Without one nothing can be set up or reached in the sandbox.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """The daemon's own log, on standard error, as JSON lines."""

    level: str = setting(
        choice("debug", "info", "warning", "error"), "info", "The least severe event written.", "One line per change."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long sandboxd waits; each ends in a named error."""

    head: float = setting(
        duration("100ms", "5m"), "10s", "From a request head's first byte to its last: 408.", "As the gateway's."
    )
    handshake: float = setting(
        duration("100ms", "2m"), "10s", "A TLS handshake of a sandbox process.", "Two round trips inside one machine."
    )
    hold: float = setting(
        duration("0s", "1m"),
        "5s",
        "Keeping a connection while there is no managed set or no tunnel: 503.",
        "A restarted gateway is back sooner than a client gives up.",
    )
    answer: float = setting(
        duration("1s", "10m"),
        "60s",
        "From opening a stream to the gateway's one answer: 504.",
        "Longer than the gateway's own dial, so that its answer names the cause.",
    )
    idle: float = setting(
        duration("1s", "1d"),
        "15m",
        "A stream without a byte either way.",
        "The gateway's timeouts.opaque_idle, so that neither side gives up before the other.",
    )
    connect: float = setting(
        duration("100ms", "2m"),
        "10s",
        "Reaching the gateway, TLS and upgrade included.",
        "Then the next attempt may find another replica.",
    )
    name: float = setting(
        duration("1s", "1d"),
        "60s",
        "How long an address that DNS told stands for its name at least (`redirect`).",
        "Programs ask again after that; an open connection keeps it longer.",
    )
    drain: float = setting(
        duration("0s", "1h"),
        "10s",
        "How long open streams may finish after SIGTERM.",
        "A sandbox that ends is in haste.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much sandboxd takes; each is a security limit."""

    connections: int = setting(
        count(1, 100_000), "1024", "Connections of sandbox processes at once: 503.", "As many as a tunnel has streams."
    )
    head_bytes: int = setting(
        size("4KiB", "1MiB"), "64KiB", "A request head, or the gateway's answer: 431.", "The gateway's own limit."
    )
    header_count: int = setting(count(16, 1000), "128", "Header fields of one head: 431.", "The gateway's own limit.")
    write_buffer_bytes: int = setting(
        size("16KiB", "16MiB"),
        "128KiB",
        "Bytes waiting for a slow process before its stream is paused.",
        "Inside one machine a reader is slow because it is busy, not because it is far.",
    )
    leaf_contexts: int = setting(
        count(4, 100_000),
        "128",
        "TLS contexts of intercepted hosts kept ready.",
        "An OpenSSL context takes tens of KiB; one sandbox speaks to few hosts.",
    )
    names: int = setting(
        count(16, 131_070),
        "16384",
        "Names that have an address at once (`redirect`); more are not told one.",
        "About 4 MiB; at most the addresses of 198.18.0.0/15.",
    )
    buffer_bytes: int = setting(
        size("1MiB", "1GiB"),
        "32MiB",
        "Bytes of all streams waiting in this process; beyond it no credit is returned.",
        "A sandbox's memory is the sandbox's.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxdConfig:
    """Everything sandboxd can be told. gateway_url and token_file are needed."""

    gateway_url: GatewayUrl | None = optional_setting(
        GATEWAY, "The tunnel listener of the gateway.", "The one address sandboxd ever connects to."
    )
    token_file: Path | None = optional_setting(
        PATH,
        "The sandbox's tunnel token: a bare line, or JSON `{token, renewalToken}`.",
        "A file can be replaced while sandboxd runs; a variable is shown to every process.",
    )
    gateway_ca_file: Path | None = optional_setting(
        PATH, "A PEM bundle that the gateway's certificate is verified by, instead of the system's.", "A private CA."
    )
    state_dir: Path = setting(
        PATH,
        "sandboxd-state",
        "Holds the CA files for clients and the renewal token (0600).",
        "A sandboxd that was killed comes back by it.",
    )
    trust_dir: Path | None = optional_setting(
        PATH, "Holds the CA files for clients instead of the state directory.", "A sandbox is shown these files alone."
    )
    listen: HostPort = setting(
        LISTEN, "127.0.0.1:3129", "The proxy for the sandbox's processes.", "Loopback only: it asks nobody for a token."
    )
    interception: Interception = section(Interception)
    redirect: Redirect = section(Redirect)
    log: LogSettings = section(LogSettings)
    timeouts: Timeouts = section(Timeouts)
    limits: Limits = section(Limits)

    @property
    def gateway(self) -> GatewayUrl:
        """The gateway; load_config has seen to it that there is one."""
        assert self.gateway_url is not None, "load_config demands it"
        return self.gateway_url

    @property
    def tokens(self) -> Path:
        """The token file; load_config has seen to it that there is one."""
        assert self.token_file is not None, "load_config demands it"
        return self.token_file


def load_config(environ: Mapping[str, str], base_dir: Path) -> SandboxdConfig:
    """Check the environment; raise ConfigError with every fault."""
    reader = Reader(environ, base_dir, PREFIX)
    config = reader.read(SandboxdConfig, {})
    told = {issue.pointer for issue in reader.issues}
    if config.gateway_url is None and "SALLYPORT_GATEWAY_URL" not in told:
        reader.fault("SALLYPORT_GATEWAY_URL", "is needed; write wss://host:port, the gateway's tunnel listener")
    if config.token_file is None and "SALLYPORT_TOKEN_FILE" not in told:
        reader.fault("SALLYPORT_TOKEN_FILE", "is needed; name the file that holds the sandbox's tunnel token")
    if not is_loopback(config.listen.host):
        reader.fault(
            "SALLYPORT_LISTEN", "every connection is taken for the sandbox's own, so only loopback is listened on"
        )
    redirect = config.redirect
    if (redirect.questions or redirect.question_streams or redirect.deputy is not None) and not redirect.connections:
        reader.fault("SALLYPORT_REDIRECT_CONNECTIONS", "is needed as well: it says that sandboxd stands outside")
    if reader.issues:
        raise ConfigError(reader.issues)
    return config


def process_environment() -> Mapping[str, str]:
    """Return the environment of this process, for whoever starts sandboxd."""
    return os.environ


def describe_settings() -> Iterator[NamedSetting]:
    """Yield every setting with its names, bounds, meaning and reason."""
    return describe(SandboxdConfig, PREFIX)
