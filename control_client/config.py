"""The settings of an embedded client. The only reader of the environment here; each is a SALLYPORT_* variable."""

# ruff: noqa: RUF009  setting() and its kin are dataclasses.field by another name

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from control_client.feed_state import Tier
from sallyport.secret import Secret, why_unusable
from sallyport.settings import (
    PATH,
    TEXT,
    ConfigError,
    Kind,
    NamedSetting,
    Reader,
    describe,
    duration,
    optional_setting,
    section,
    setting,
)

PREFIX: Final = "SALLYPORT"

# Names under which clients of the same feed have had these before; ours win.
OLDER_NAMES: Final = {
    "SALLYPORT_API_KEY_STANDARD": "INFRASTRACTURE_API_KEY_STANDARD",
    "SALLYPORT_API_KEY_ADMIN": "INFRASTRACTURE_API_KEY_ADMIN",
    "SALLYPORT_PUSH_SECRET_STANDARD": "WEBHOOK_CLIENT_SECRET",
}


def _parse_secret(value: object, _: Path) -> Secret:
    if not isinstance(value, str) or not value.isascii() or " " in value or why_unusable(value) is not None:
        raise ValueError("write a secret of visible ASCII, which is not repeated here")
    return Secret(value.encode("ascii"))


SECRET: Final = Kind(_parse_secret, "a secret")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeys:
    """The keys of the feed. A tier without one is not followed, and its calls are refused."""

    standard: Secret | None = optional_setting(
        SECRET, "The key for calls of end users.", "It alone decides what they can see."
    )
    admin: Secret | None = optional_setting(
        SECRET, "The key for calls of operators.", "Never used for others, and no other is used for theirs."
    )

    def by_tier(self) -> Mapping[Tier, Secret | None]:
        """Return the key of each tier."""
        return {Tier.STANDARD: self.standard, Tier.ADMIN: self.admin}


@dataclass(frozen=True, slots=True, kw_only=True)
class PushSecrets:
    """What senders of pushes show. Without one a tier takes no pushes, and its feed is polled."""

    standard: Secret | None = optional_setting(
        SECRET, "The secret of the standard subscription.", "Its deltas hold what the standard key sees."
    )
    admin: Secret | None = optional_setting(
        SECRET, "The secret of the admin subscription.", "Another than that of standard: it says whose push it is."
    )

    def by_tier(self) -> Mapping[Tier, Secret | None]:
        """Return the secret of each tier."""
        return {Tier.STANDARD: self.standard, Tier.ADMIN: self.admin}


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """The feed, and how its servers are spoken to."""

    url: str = setting(TEXT, "http://127.0.0.1:7500", "The control plane's address.", "Its own default.")
    ca_file: Path | None = optional_setting(
        PATH, "A PEM bundle to trust instead of the system's roots.", "For servers with a private CA."
    )
    instance_id: str = setting(TEXT, "default", "The instance whose feed is followed.", "A key is bound to one.")
    user_id: str | None = optional_setting(
        TEXT, "The user whose installations are in it.", "Without one there are none in it."
    )
    state_dir: Path | None = optional_setting(
        PATH, "Where the last good set is kept, in files of mode 0600.", "Absent: nothing is kept."
    )
    poll: float = setting(
        duration("1s", "1d"), "15m", "The feed is asked anyway after this.", "A push may be lost unnoticed."
    )
    request: float = setting(duration("100ms", "5m"), "10s", "One request to the feed.", "Tried again after that.")
    build: float = setting(
        duration("1s", "5m"), "15s", "A server's handshake and list of tools.", "It is tried again after that."
    )
    grace: float = setting(
        duration("0s", "1h"), "10s", "Calls on a link that was replaced may go on for this.", "Most take seconds."
    )
    call: float = setting(duration("1s", "1d"), "5m", "One tool call.", "A server that hangs must not hold its caller.")
    patience: float = setting(
        duration("0s", "10m"), "10s", "A call waits so long for a server that is away.", "A restart takes seconds."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """Everything an embedded client can be told."""

    api_key: ApiKeys = section(ApiKeys)
    push_secret: PushSecrets = section(PushSecrets)
    client: Client = section(Client)


def load_config(environ: Mapping[str, str], base_dir: Path) -> ClientConfig:
    """Read the environment; raise ConfigError with every fault."""
    older = {name: environ[before] for name, before in OLDER_NAMES.items() if before in environ}
    reader = Reader({**older, **environ}, base_dir, PREFIX)
    config = reader.read(ClientConfig, None)
    if urlsplit(config.client.url).scheme not in ("http", "https"):
        reader.fault(f"{PREFIX}_CLIENT_URL", "write http://host:port or https://host:port")
    secrets = config.push_secret
    if secrets.standard is not None and secrets.standard == secrets.admin:
        reader.fault(f"{PREFIX}_PUSH_SECRET_ADMIN", "write another secret than that of the standard subscription")
    if reader.issues:
        raise ConfigError(reader.issues)
    return config


def read_config(base_dir: Path) -> ClientConfig:
    """Read this process's environment; raise ConfigError with every fault."""
    return load_config(os.environ, base_dir)


def describe_settings() -> Iterator[NamedSetting]:
    """Yield every setting with its names, bounds, meaning and reason."""
    return describe(ClientConfig, PREFIX)
