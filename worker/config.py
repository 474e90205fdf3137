"""The worker's settings. The only reader of the environment; each setting is also a SALLYPORT_WORKER_* variable."""

# ruff: noqa: RUF009  setting() and its kin are dataclasses.field by another name

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sallyport.host import is_loopback
from sallyport.net.listener_tls import ListenerTls
from sallyport.net.log import Log
from sallyport.net.setting_kinds import LISTEN, HostPort
from sallyport.settings import (
    FLAG,
    PATH,
    TEXT,
    ConfigError,
    NamedSetting,
    Reader,
    count,
    describe,
    duration,
    optional_setting,
    section,
    setting,
)

PREFIX: Final = "SALLYPORT_WORKER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """The control plane whose plans are applied."""

    url: str = setting(TEXT, "http://127.0.0.1:7500", "The control plane's address.", "Its own default.")
    token_file: Path = setting(
        PATH, "service-token", "The worker's service token for it (aud sallyport-control).", "Renewed by replacing it."
    )
    ca_file: Path | None = optional_setting(
        PATH, "A PEM bundle to trust instead of the system's roots.", "For a control plane with a private CA."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateways:
    """The gateways' admin listeners, whose addresses the control plane tells."""

    token_file: Path | None = optional_setting(
        PATH, "The worker's service token for them (aud sallyport-gateway).", "Not needed on loopback."
    )
    ca_file: Path | None = optional_setting(
        PATH, "A PEM bundle to trust instead of the system's roots.", "Admin listeners off loopback speak TLS."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Whose service tokens the API takes, where it has TLS. The keys come from the control plane."""

    issuer: str = setting(TEXT, "sallyport", "The `iss` that tokens must carry.", "What the control plane writes.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long the steps of an application may wait, tries included."""

    control: float = setting(
        duration("1s", "1h"), "60s", "Reading a plan and putting it in force.", "A control plane that restarts is back."
    )
    integrations: float = setting(
        duration("1s", "1d"), "5m", "The integration servers of a plan.", "Packages are installed and servers started."
    )
    gateways: float = setting(
        duration("1s", "1h"), "60s", "Every gateway's report that it applied the plan.", "Twice a lease."
    )
    tunnel: float = setting(
        duration("1s", "1d"), "5m", "A tunnel of the sandbox, to push its set-up through.", "A sandbox that boots."
    )
    setup: float = setting(
        duration("1s", "1d"), "30m", "The set-up inside the sandbox.", "Packages are installed and repositories cloned."
    )
    lease: float = setting(
        duration("1s", "10m"),
        "15s",
        "How long a worker counts as alive without a word; others go on with its work then.",
        "It renews three times in that time.",
    )
    request: float = setting(duration("100ms", "5m"), "10s", "One request to a far side.", "Tried again after that.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much the worker takes."""

    applications: int = setting(
        count(1, 1_000_000), "10000", "Applications remembered; the oldest that ended go first.", "About 10 KiB each."
    )
    running: int = setting(
        count(1, 10_000),
        "100",
        "Applications carried out at once; more wait.",
        "They wait for others most of the time.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """Everything a worker can be told."""

    listen: HostPort = setting(
        LISTEN,
        "127.0.0.1:4200",
        "The API.",
        "It can change what sandboxes may do: loopback until `tls` names a certificate.",
    )
    tls: ListenerTls = section(ListenerTls)
    id: str = setting(
        TEXT,
        "wrk_local",
        "Who this worker is among those on one database.",
        "The same after a restart, so that it goes on with its own work at once.",
    )
    data_dir: Path = setting(
        PATH,
        "sallyport-worker-data",
        "Holds the database, where none is named.",
        "Apart from the control plane's, which holds keys.",
    )
    database_url: str | None = optional_setting(
        TEXT,
        "A `postgresql://` or `sqlite:///` URL; absent: `worker.db` in the data folder.",
        "PostgreSQL for several workers; SQLite needs nothing prepared.",
    )
    roll_back_failed: bool = setting(
        FLAG,
        "false",
        "Whether an application that failed is followed by one of the last plan that was applied.",
        "It takes the next revision, which belongs to whoever writes the plans.",
    )
    tokens: Tokens = section(Tokens)
    control: Control = section(Control)
    gateways: Gateways = section(Gateways)
    log: Log = section(Log)
    timeouts: Timeouts = section(Timeouts)
    limits: Limits = section(Limits)

    @property
    def database(self) -> str:
        """The database's URL."""
        return self.database_url or f"sqlite:///{self.data_dir.absolute() / 'worker.db'}"


def load_config(environ: Mapping[str, str], base_dir: Path) -> WorkerConfig:
    """Read the environment; raise ConfigError with every fault."""
    reader = Reader(environ, base_dir, PREFIX)
    config = reader.read(WorkerConfig, None)
    if config.tls.is_whole(reader, f"{PREFIX}_TLS") and not config.tls.is_given and not is_loopback(config.listen.host):
        reader.fault(f"{PREFIX}_LISTEN", "off loopback the API needs tls; or write 127.0.0.1:4200")
    if reader.issues:
        raise ConfigError(reader.issues)
    return config


def read_config(base_dir: Path) -> WorkerConfig:
    """Read this process's environment; raise ConfigError with every fault."""
    return load_config(os.environ, base_dir)


def describe_settings() -> Iterator[NamedSetting]:
    """Yield every setting with its names, bounds, meaning and reason."""
    return describe(WorkerConfig, PREFIX)
