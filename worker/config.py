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
from sallyport.net.setting_kinds import BASE_URL, LISTEN, PART_ID, HostPort
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
    size,
)

PREFIX: Final = "SALLYPORT_WORKER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """The control plane whose plans are applied."""

    url: str = setting(BASE_URL, "http://127.0.0.1:7500", "The control plane's address.", "Its own default.")
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
    reconcile: float = setting(
        duration("100ms", "1h"),
        "30s",
        "Between two looks at whether what is declared is there.",
        "What somebody changed behind our back may wait so long; what we are told of does not.",
    )
    drain: float = setting(
        duration("1s", "5m"),
        "5s",
        "How long open requests may last when the worker ends.",
        "Event streams never end by themselves.",
    )


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
class IntegrationTimes:
    """How long the phases of an integration server's life may take."""

    install: float = setting(duration("1s", "1h"), "10m", "An installer's run.", "Packages of 300 MB over a slow line.")
    handshake: float = setting(
        duration("100ms", "10m"),
        "30s",
        "The start of a server until its tools are known; also an answer to a ping.",
        "A Node program on a busy machine takes seconds.",
    )
    call: float = setting(
        duration("1s", "1d"), "5m", "The answer to a call through the front.", "The SDKs' own limit for a stream."
    )
    ping: float = setting(
        duration("1s", "1h"), "30s", "Between two pings of a server at a URL.", "Nothing else tells that it is gone."
    )
    exit: float = setting(
        duration("10ms", "5m"), "2s", "A server's end after its input has ended.", "The MCP SDKs wait as long."
    )
    terminate: float = setting(
        duration("10ms", "5m"), "2s", "Its end after SIGTERM; SIGKILL follows.", "What has not ended by then hangs."
    )
    first_restart: float = setting(
        duration("10ms", "5m"),
        "500ms",
        "The pause after a first crash; doubled after each further one.",
        "Short: most crash once.",
    )
    longest_restart: float = setting(
        duration("10ms", "1h"), "60s", "The longest such pause.", "Soon enough once the cause is mended."
    )
    stable: float = setting(
        duration("10ms", "1d"), "60s", "A run after which crashes are counted anew.", "Longer than any handshake."
    )
    session_idle: float = setting(
        duration("10s", "7d"),
        "30m",
        "After which a session with a program at the front ends, where nobody asks or listens.",
        "Its client begins a new one.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegrationLimits:
    """How much integration servers may cost."""

    servers: int = setting(count(1, 1000), "64", "Integrations installed.", "A Node server takes about 60 MB.")
    installations: int = setting(count(1, 32), "2", "Installations at once.", "Each one loads a core.")
    crashes: int = setting(
        count(1, 1000),
        "5",
        "Failures in a row before a server is left alone (`crash_loop`).",
        "What one pause does not mend, five do not.",
    )
    tools: int = setting(count(1, 100_000), "1000", "Tools of one server.", "A model reads far fewer.")
    calls: int = setting(
        count(1, 100_000),
        "1024",
        "Calls that one server has to answer at once; of a program, those of one session.",
        "Each one is a task and its answer.",
    )
    message_bytes: int = setting(
        size("64KiB", "256MiB"), "4MiB", "One message to or from a server.", "The SDKs' limit for a request."
    )
    log_lines: int = setting(
        count(10, 100_000), "1000", "Lines of a server's output that are kept.", "The last ones say why it ended."
    )
    log_line_bytes: int = setting(
        size("256B", "1MiB"), "4KiB", "One such line; what is longer is cut.", "A traceback's line is shorter."
    )
    sessions: int = setting(
        count(1, 100_000),
        "256",
        "Sessions of one server at a URL, or in a sandbox, that the front remembers the key of.",
        "The oldest is forgotten, and its client begins a new one.",
    )
    session_processes: int = setting(
        count(1, 10_000),
        "128",
        "Sessions with programs at the front, of all servers; then the one idle longest gives way to a new one.",
        "Each one is a process; a Node server takes about 60 MB.",
    )
    session_processes_of_one: int = setting(
        count(1, 10_000), "32", "Those of one server.", "So that one in demand leaves room for others."
    )
    session_processes_of_key: int = setting(
        count(1, 10_000), "16", "Those of one key with one server.", "So that no key is served alone."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegrationSettings:
    """The integration servers of this worker."""

    state_dir: Path = setting(
        PATH, "sallyport-worker", "What is installed, and what is meant to run.", "One worker uses it at a time."
    )
    credentials_dir: Path | None = optional_setting(
        PATH,
        "The folder of secrets that are referred to by `credential`, a file each.",
        "As systemd and Kubernetes give them.",
    )
    npm: str = setting(
        TEXT, "npm", "The npm that installs; the node beside it is the servers'.", "The one on the PATH."
    )
    python: str = setting(
        TEXT, "python3", "The Python whose environments servers are installed into.", "The one on the PATH."
    )
    proxy: str | None = optional_setting(
        TEXT,
        "The gateway's explicit listener (http://host:port), which servers and installers go out through.",
        "Their credentials are written there, and they hold none.",
    )
    proxy_token_file: Path | None = optional_setting(
        PATH,
        "The proxy token of the sandbox that their traffic belongs to.",
        "Read at each start: renewed by replacing it.",
    )
    proxy_ca_file: Path | None = optional_setting(
        PATH, "That sandbox's CA (GET /v1/ca.pem of the listener), which they trust.", "Managed hosts are intercepted."
    )
    timeouts: IntegrationTimes = section(IntegrationTimes)
    limits: IntegrationLimits = section(IntegrationLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontSettings:
    """Where clients call integration servers by streamable HTTP."""

    listen: HostPort | None = optional_setting(
        LISTEN, "The front's listener; absent: there is none.", "Whoever only manages servers needs none."
    )
    tls: ListenerTls = section(ListenerTls)
    url: str | None = optional_setting(
        BASE_URL,
        "Where clients reach the front, and how plans name it.",
        "On loopback: by default where it listens.",
    )
    keys_file: Path | None = optional_setting(
        PATH,
        "Who else may call: a line `NAME TIER SHA256` for each key.",
        "For a worker without a control plane, whose client keys are taken otherwise.",
    )
    keys_stale: float = setting(
        duration("1s", "1h"),
        "1m",
        "How long a client key counts that the control plane cannot be asked about again.",
        "Its restart cuts no calls; nobody can revoke a key meanwhile.",
    )
    allowed_hosts: tuple[str, ...] = setting_list(
        TEXT, "Host names it answers to beside those of loopback.", "A web page's name may be rebound to it."
    )
    allowed_origins: tuple[str, ...] = setting_list(
        TEXT, "Origins whose pages may call.", "None: clients of this kind are no pages."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    """The sandboxes that this worker runs."""

    gateway_url: str | None = optional_setting(
        TEXT,
        "The tunnel listener of the gateway, for the sandboxds of these sandboxes; absent: no sandbox is run.",
        "As SALLYPORT_GATEWAY_URL of a sandboxd.",
    )
    gateway_ca_file: Path | None = optional_setting(
        PATH, "A PEM bundle that the gateway's certificate is verified by, instead of the system's.", "A private CA."
    )
    state_dir: Path = setting(
        PATH, "sallyport-sandboxes", "What is declared, and the files of each sandbox.", "One worker uses it at a time."
    )
    isolation: str = setting(
        choice("full", "none"),
        "full",
        "What holds a local sandbox in; `none` holds nothing, and its programs are asked to use a proxy.",
        "Where the kernel or the rights do not allow `full`, a sandbox is refused.",
    )
    shared: tuple[Path, ...] = setting_list(
        PATH,
        "Further paths of this machine that local sandboxes see, read-only.",
        "Beside /usr, /bin, /sbin, /lib, /lib32, /lib64 and /etc: programs that are elsewhere.",
    )
    docker_socket: Path | None = optional_setting(
        PATH,
        "The socket of a Docker daemon of this machine, or of Podman's service, for `provider: docker`.",
        "Whoever may use it is root on the machine: it is not looked for.",
    )
    first_uid: int = setting(
        count(1000, 2_000_000_000),
        "200000",
        "The first of the users that local sandboxes run as, one each.",
        "Beyond those that a system gives to people and services.",
    )
    start_timeout: float = setting(
        duration("1s", "10m"), "30s", "A sandboxd's start.", "It does not wait for its gateway."
    )
    stop_timeout: float = setting(
        duration("0s", "10m"), "10s", "A command's end after SIGTERM; SIGKILL follows.", "As Docker's own."
    )
    most: int = setting(count(1, 10_000), "64", "Sandboxes declared.", "Each one has a sandboxd of some 45 MiB.")


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
    api_url: str | None = optional_setting(
        BASE_URL, "Where the control plane reaches the API.", "On loopback: by default where it listens."
    )
    id: str = setting(
        PART_ID,
        "wrk_local",
        "Who this worker is among those on one database, and among those of one control plane.",
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
    integrations: IntegrationSettings = section(IntegrationSettings)
    front: FrontSettings = section(FrontSettings)
    sandboxes: SandboxSettings = section(SandboxSettings)

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
    if not is_loopback(config.listen.host) and config.api_url is None:
        # The address it listens on is mostly 0.0.0.0, and no certificate is for that.
        reader.fault(f"{PREFIX}_API_URL", "is missing; write the https:// name that the certificate of tls has")
    _check_front(reader, config.front)
    if config.integrations.proxy is not None and config.integrations.proxy_ca_file is None:
        reader.fault(f"{PREFIX}_INTEGRATIONS_PROXY", "name the CA as well: proxy_ca_file")
    if reader.issues:
        raise ConfigError(reader.issues)
    return config


def _check_front(reader: Reader, front: FrontSettings) -> None:
    pointer = f"{PREFIX}_FRONT"
    is_whole = front.tls.is_whole(reader, f"{pointer}_TLS")
    if front.listen is None:
        return
    if is_whole and not front.tls.is_given and not is_loopback(front.listen.host):
        reader.fault(f"{pointer}_LISTEN", "off loopback the front needs front.tls: keys travel in it")
    if not is_loopback(front.listen.host) and front.url is None:
        reader.fault(f"{pointer}_URL", "is missing; write the https:// name that the certificate of front.tls has")


def inherited() -> dict[str, str]:
    """Return a copy of the environment this worker was started with: what servers' secrets may be referred to in."""
    return dict(os.environ)


def read_config(base_dir: Path) -> WorkerConfig:
    """Read this process's environment; raise ConfigError with every fault."""
    return load_config(os.environ, base_dir)


def describe_settings() -> Iterator[NamedSetting]:
    """Yield every setting with its names, bounds, meaning and reason."""
    return describe(WorkerConfig, PREFIX)
