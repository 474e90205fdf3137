"""The control plane's settings, all of them variables, with their bounds, meanings and reasons.

The only reader of its environment. docs/settings.md has a row for each; a test compares.
"""

# ruff: noqa: RUF009  setting() and its kin are dataclasses.field by another name

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Final

from control_plane.feed.tiers import Tier
from control_plane.outbound.url import url_fault
from control_plane.push.configured import ConfiguredSubscriber, read_subscribers, secret_fault
from control_plane.vault.master_keys import KeyCommand, KeySource, KeyText
from sallyport.net.setting_kinds import LISTEN, NETWORK, HostPort
from sallyport.plan.url import UrlError, split_url
from sallyport.secret import Secret
from sallyport.settings import (
    PATH,
    TEXT,
    ConfigError,
    Kind,
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
    size,
)

PREFIX: Final = "SALLYPORT"

# The keys of a client (control_client/config.py) begin like our section `api`.
CLIENT_KEYS: Final = f"{PREFIX}_API_KEY_"
# Names under which servers of the same feed have had these before; ours win.
OLDER_NAMES: Final = {
    f"{PREFIX}_PUSHES_CLIENT_URL": "WEBHOOK_CLIENT_URL",
    f"{PREFIX}_PUSHES_CLIENT_SECRET": "WEBHOOK_CLIENT_SECRET",
    f"{PREFIX}_PUSHES_CLIENT_TIER": "WEBHOOK_CLIENT_TIER",
}
# The name of the subscriber that these are about, which no entry of the file has.
CLIENT_NAME: Final = "client"


def _parse_secret(value: object, _: Path) -> Secret:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("write a non-empty text")
    return Secret(value.strip().encode("utf-8", "surrogateescape"))


SECRET: Final = Kind(_parse_secret, "`<version> <key>`, separated by commas")


def _parse_public_url(value: object, _: Path) -> str:
    try:
        url = split_url(str(value))
    except UrlError as error:
        raise ValueError(f"{value!r} is not a URL; {error}") from None
    if url.query is not None or url.path not in ("", "/"):
        raise ValueError(f"{value!r} has a path or a query; write https://host[:port]")
    return str(value).rstrip("/")


PUBLIC_URL: Final = Kind(_parse_public_url, "https://host[:port]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """Where the control plane is asked."""

    listen: HostPort = setting(
        LISTEN, "127.0.0.1:7500", "The HTTP surface.", "Loopback: off it, put TLS in front, tokens travel in it."
    )
    public_url: str | None = optional_setting(
        PUBLIC_URL,
        "Where browsers and providers reach it; absent: `http://` and `api.listen`.",
        "A provider sends browsers only to what it was told: this and `/p/integration/oauth/callback`.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbound:
    """What the control plane itself may ask: providers of integrations, and subscribers of their events."""

    allow: tuple[IPv4Network | IPv6Network, ...] = setting_list(
        NETWORK,
        "Private or otherwise refused networks in which providers and subscribers may be asked.",
        "Empty: only public addresses, so that a provider's name cannot be pointed inwards.",
    )
    ca_file: Path | None = optional_setting(
        PATH,
        "A PEM bundle of roots to trust for providers and subscribers instead of the system's.",
        "For providers of one's own with a private CA.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateways:
    """The gateways' admin listeners, whose addresses their leases tell; asked for denials."""

    ca_file: Path | None = optional_setting(
        PATH,
        "A PEM bundle of roots to trust for admin listeners instead of the system's.",
        "Admin listeners off loopback speak TLS.",
    )
    timeout: float = setting(
        duration("100ms", "1m"), "3s", "How long one may take to answer.", "Somebody looks at the page meanwhile."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsListener:
    """Where Prometheus finds what is counted."""

    listen: HostPort | None = optional_setting(
        LISTEN,
        "The listener of `/metrics`, apart from the API's; absent: there is none.",
        "Such as 127.0.0.1:7501. It asks for no token: whoever reaches it sees how much is asked, not by whom.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhooks:
    """Events of providers: taken in, and told to subscribers."""

    max_body: int = setting(
        size("64KiB", "64MiB"),
        "25MiB",
        "The largest event taken in: 413.",
        "GitHub sends up to 25 MB and never again; of all bodies together a replica holds 128 MiB.",
    )
    delivery_timeout: float = setting(
        duration("1s", "1m"), "10s", "How long a subscriber may take to answer.", "It has to take the event, not act."
    )
    give_up_after: float = setting(
        duration("1m", "30d"),
        "24h",
        "How long a subscriber is tried before a delivery has failed.",
        "A night's outage.",
    )
    retention: float = setting(
        duration("1h", "365d"),
        "30d",
        "How long events and their deliveries are kept.",
        "To be looked at or sent again.",
    )


def _parse_subscriber_url(value: object, _: Path) -> str:
    fault = url_fault(str(value), is_plain_on_loopback=True)
    if fault is not None:
        raise ValueError(f"{value!r} is no URL for a subscriber: {fault}")
    return str(value)


def _parse_bearer(value: object, _: Path) -> Secret:
    fault = secret_fault(str(value))
    if fault is not None:
        raise ValueError(f"the secret is not repeated here; {fault}")
    return Secret(str(value).encode("ascii"))


SUBSCRIBER_URL: Final = Kind(_parse_subscriber_url, "https://..., or http:// on loopback")
BEARER: Final = Kind(_parse_bearer, "a secret of visible ASCII")
SUBSCRIBERS: Final = Kind(lambda value, base_dir: read_subscribers(PATH.parse(value, base_dir)), "a YAML file")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushes:
    """Subscribers of the feed, who are told when what an instance is served changes."""

    client_url: str | None = optional_setting(
        SUBSCRIBER_URL,
        "A subscriber that is told of every instance; also read as `WEBHOOK_CLIENT_URL`.",
        "Absent: its clients poll.",
    )
    client_secret: Secret | None = optional_setting(
        BEARER,
        "What it knows us by; also read as `WEBHOOK_CLIENT_SECRET`. Needed with the URL.",
        "A push that anybody could send would be worse than none.",
    )
    client_tier: str = setting(
        choice("standard", "admin"),
        "standard",
        "What it may see; also read as `WEBHOOK_CLIENT_TIER`.",
        "What is for admins is told to nobody by accident.",
    )
    subscribers: tuple[ConfiguredSubscriber, ...] | None = optional_setting(
        SUBSCRIBERS, "A file of more subscribers (push.md).", "Each with a secret, a tier, an instance and events."
    )
    timeout: float = setting(
        duration("1s", "1m"), "5s", "How long a subscriber may take to answer.", "It has to take the push, not act."
    )
    collapse_after: int = setting(
        count(1, 1_000),
        "5",
        "Failed attempts after which a subscriber is told that something changed, and no more what.",
        "It reads the feed then, which answers for any number of changes.",
    )

    def configured(self) -> tuple[ConfiguredSubscriber, ...]:
        """Return every subscriber that is named here."""
        more = self.subscribers or ()
        if self.client_url is None or self.client_secret is None:
            return more
        client = ConfiguredSubscriber(
            name=CLIENT_NAME, url=self.client_url, secret=self.client_secret, tier=Tier(self.client_tier)
        )
        return (client, *more)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerCalls:
    """How workers are asked to install, start and stop integration servers."""

    ca_file: Path | None = optional_setting(
        PATH, "A PEM bundle of roots to trust for workers instead of the system's.", "Off loopback they speak TLS."
    )
    timeout: float = setting(
        duration("1s", "10m"),
        "60s",
        "How long a worker may take to start, stop or remove one.",
        "A handshake takes 30 s.",
    )
    install_timeout: float = setting(
        duration("1s", "2h"), "11m", "How long it may take to install one.", "Its installers have 10 minutes."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """What the clients of instances are served."""

    linger: float = setting(
        duration("1s", "1h"),
        "30s",
        "How long a server goes on running that was stopped or removed, and is served no more.",
        "Clients hear of it and end their calls first.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How often somebody may ask one replica."""

    requests_per_minute: int | None = setting(
        or_off(count(1, 10_000_000)),
        "6000",
        "Requests of one API key a minute, all of which may come at once: 429.",
        "A hundred a second is more than a page or a script needs; service tokens have no such limit.",
    )
    failed_logins_per_minute: int | None = setting(
        or_off(count(1, 10_000_000)),
        "60",
        "Requests without a good credential from one address a minute, before they are answered 429 in place of 401.",
        "A typing error, not a search; a good credential is heard all the same.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlaneConfig:
    """Everything a control plane can be told."""

    data_dir: Path = setting(
        PATH,
        "sallyport-data",
        "Holds what is not named elsewhere: database, master keys, service tokens.",
        "One folder to back up; only the control plane's user may read it.",
    )
    database_url: str | None = optional_setting(
        TEXT,
        "A `postgresql://` or `sqlite:///` URL; absent: `control-plane.db` in the data folder.",
        "PostgreSQL for several replicas; SQLite needs nothing prepared.",
    )
    master_key_file: Path | None = optional_setting(
        PATH,
        "The master keys that wrap every stored secret; absent: `master.keys` in the data folder, made at first start.",
        "Apart from the database, so that a copy of one alone gives nothing away.",
    )
    master_key: Secret | None = optional_setting(
        SECRET,
        "The master keys themselves, `<version> <key>`, separated by commas.",
        "For a platform that gives secrets as variables; a file or a command is shown to fewer.",
    )
    master_key_command: str | None = optional_setting(
        TEXT,
        "A command that prints the master keys as a file would hold them; run without a shell.",
        "A KMS keeps them; only this process and the command ever have them.",
    )
    master_key_timeout: float = setting(
        duration("1s", "5m"), "30s", "How long that command may take.", "A start that hangs tells nobody why."
    )
    integration_manifests: Path | None = optional_setting(
        PATH,
        "A folder of manifests (`.yaml`, `.yml`, `.json`), each an integration; a faulty one keeps from starting.",
        "An integration without code is one file; the operator's own, so it is held to what settings are.",
    )
    tokens_issuer: str = setting(
        TEXT, "sallyport", "The `iss` of every token.", "The gateway's `tokens.issuer` is the same variable."
    )
    log_level: str = setting(
        choice("debug", "info", "warning", "error"), "info", "The least severe event written.", "One line per change."
    )
    log_format: str = setting(
        choice("json", "console"), "json", "How events are written.", "Collectors read JSON; people read console."
    )
    api: Api = section(Api)
    outbound: Outbound = section(Outbound)
    gateways: Gateways = section(Gateways)
    metrics: MetricsListener = section(MetricsListener)
    webhooks: Webhooks = section(Webhooks)
    pushes: Pushes = section(Pushes)
    workers: WorkerCalls = section(WorkerCalls)
    feed: Feed = section(Feed)
    limits: Limits = section(Limits)

    @property
    def database(self) -> str:
        """The database's URL."""
        return self.database_url or f"sqlite:///{self.data_dir.absolute() / 'control-plane.db'}"

    @property
    def public_url(self) -> str:
        """Where browsers reach the control plane, without a slash at its end."""
        return self.api.public_url or f"http://{self.api.listen}"

    @property
    def master_keys(self) -> KeySource:
        """Where the master keys are; of the settings that say so, one is given."""
        if self.master_key is not None:
            return KeyText(self.master_key)
        if self.master_key_command is not None:
            return KeyCommand(self.master_key_command, self.master_key_timeout)
        return self.master_key_file or self.data_dir / "master.keys"

    @property
    def is_embedded(self) -> bool:
        """Whether nothing was prepared: the master keys may be made here."""
        return self.master_key_file is None and self.master_key is None and self.master_key_command is None


def load_config(
    environ: Mapping[str, str], base_dir: Path, given: Mapping[str, object] | None = None
) -> ControlPlaneConfig:
    """Check variables, and settings given otherwise, which the variables do not override; raise ConfigError."""
    taken = {
        "_".join((PREFIX, name, *inner)).upper()
        for name, value in (given or {}).items()
        for inner in ([(each,) for each in value] if isinstance(value, Mapping) else [()])
    }
    ours = {name: text for name, text in environ.items() if name not in taken and not name.startswith(CLIENT_KEYS)}
    ours = {name: environ[before] for name, before in OLDER_NAMES.items() if before in environ} | ours
    reader = Reader(ours, base_dir, PREFIX)
    config = reader.read(ControlPlaneConfig, dict(given or {}))
    if sum(each is not None for each in (config.master_key_file, config.master_key, config.master_key_command)) > 1:
        reader.fault("SALLYPORT_MASTER_KEY", "the master keys are in one place: file, variable or command")
    pushes = config.pushes
    if pushes.client_url is not None and pushes.client_secret is None:
        reader.fault(f"{PREFIX}_PUSHES_CLIENT_SECRET", "a subscriber has a secret: write it, or leave the URL out")
    if any(each.name == CLIENT_NAME for each in pushes.subscribers or ()):
        reader.fault(f"{PREFIX}_PUSHES_SUBSCRIBERS", f"{CLIENT_NAME} is the one of the variables; choose another name")
    if reader.issues:
        raise ConfigError(reader.issues)
    return config


def process_environment() -> Mapping[str, str]:
    """Return the environment of this process."""
    return os.environ


def describe_settings() -> Iterator[NamedSetting]:
    """Yield every setting with its names, bounds, meaning and reason."""
    return describe(ControlPlaneConfig, PREFIX)
