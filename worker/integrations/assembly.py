"""Put the integration servers of a worker together from its settings."""

import os
import shutil
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from control_client.admissions import Admission
from sallyport.mcp.sessions import McpSessions, SessionLimits
from sallyport.net.clock import read_clock, read_wall
from sallyport.net.line_child import StopTimes
from sallyport.net.tasks import TaskSet
from sallyport.net.tls import client_context
from sallyport.net.trust_files import write_trust
from worker.config import FrontSettings, IntegrationSettings, IntegrationTimes, WorkerConfig
from worker.integrations.front import Front
from worker.integrations.front_admission import ControlAdmission, EitherAdmission, FileAdmission
from worker.integrations.front_keys import KeyFile
from worker.integrations.installation import Installers
from worker.integrations.integrations import InstallLimits, Integrations
from worker.integrations.launch import Outbound, Surroundings
from worker.integrations.parts import Parts, ServerLimits, ServerTimes
from worker.integrations.sandbox_passages import PassageLimits, SandboxPassages
from worker.integrations.store import IntegrationStore, open_store
from worker.owned_folder import StateTaken


def open_integrations(settings: IntegrationSettings, environ: Mapping[str, str], tasks: TaskSet) -> Integrations:
    """Open the folder and return what is to be opened next; raises StateTaken. Whoever closes it closes the store."""
    store = open_store(settings.state_dir)
    try:
        return _integrations(store, settings, environ, tasks)
    except (OSError, ValueError) as error:
        store.close()
        raise StateTaken(f"the integration servers' settings cannot be used: {error}") from None


def open_front(
    config: WorkerConfig,
    integrations: Integrations,
    ask: Callable[[str, str], Awaitable[Admission | None]],
    tasks: TaskSet,
) -> Front:
    """Return the front, which asks about keys and names; raises StateTaken for what cannot be read."""
    front, settings = config.front, config.integrations
    try:
        file = None if front.keys_file is None else FileAdmission(KeyFile(front.keys_file))
        gateways = client_context(None if config.gateways.ca_file is None else str(config.gateways.ca_file))
    except (OSError, ValueError) as error:
        raise StateTaken(f"the front's keys, or the roots of gateways, cannot be read: {error}") from None
    control = ControlAdmission(ask, read_clock, tasks, stale_seconds=front.keys_stale)
    limits = PassageLimits(
        connect_seconds=settings.timeouts.handshake,
        answer_seconds=settings.timeouts.call,
        body_bytes=settings.limits.message_bytes,
        sessions=settings.limits.sessions,
        calls=settings.limits.calls,
    )
    return Front(
        integrations,
        control if file is None else EitherAdmission(file, control),
        SandboxPassages(config.gateways.token_file, gateways, limits, tasks),
        tasks,
        allowed_hosts=hosts_of(front),
        allowed_origins=frozenset(front.allowed_origins),
        most_body_bytes=settings.limits.message_bytes,
        most_sessions=settings.limits.sessions,
    )


def hosts_of(front: FrontSettings) -> frozenset[str]:
    """Return the names that the front answers to beside those of loopback: what is given, and that of its own URL."""
    own = urlsplit(front.url).hostname if front.url is not None else None
    return frozenset(front.allowed_hosts) | ({own} if own is not None else frozenset())


def _integrations(
    store: IntegrationStore, settings: IntegrationSettings, environ: Mapping[str, str], tasks: TaskSet
) -> Integrations:
    times, limits = settings.timeouts, settings.limits
    outbound = _outbound(settings, environ)
    parts = Parts(
        store=store,
        tasks=tasks,
        around=Surroundings(
            environ=environ,
            credentials_dir=settings.credentials_dir,
            outbound=outbound,
            programs_dir=_folder_of(settings.npm, environ),
        ),
        times=ServerTimes(
            handshake=times.handshake,
            call=times.call,
            ping=times.ping,
            stop=_stop_times(times),
            first_restart=times.first_restart,
            longest_restart=times.longest_restart,
            stable=times.stable,
        ),
        limits=ServerLimits(
            crashes=limits.crashes,
            tools=limits.tools,
            calls=limits.calls,
            message_bytes=limits.message_bytes,
            log_lines=limits.log_lines,
            log_line_bytes=limits.log_line_bytes,
        ),
        sessions=McpSessions(tasks, _session_limits(settings)),
        trust=client_context(None if outbound is None else str(outbound.trust.bundle)),
        wall=read_wall,
    )
    installers = Installers(
        npm=settings.npm,
        python=settings.python,
        timeout_seconds=times.install,
        most_lines=limits.log_lines,
        most_line_bytes=limits.log_line_bytes,
    )
    return Integrations(parts, installers, InstallLimits(servers=limits.servers, at_once=limits.installations))


def _session_limits(settings: IntegrationSettings) -> SessionLimits:
    times, limits = settings.timeouts, settings.limits
    return SessionLimits(
        sessions=limits.session_processes,
        sessions_of_one=limits.session_processes_of_one,
        sessions_of_caller=limits.session_processes_of_key,
        requests=limits.calls,
        handshake_seconds=times.handshake,
        idle_seconds=times.session_idle,
        answer_seconds=times.call,
        stop=_stop_times(times),
    )


def _stop_times(times: IntegrationTimes) -> StopTimes:
    return StopTimes(exit=times.exit, terminate=times.terminate)


def _outbound(settings: IntegrationSettings, environ: Mapping[str, str]) -> Outbound | None:
    if settings.proxy is None or settings.proxy_ca_file is None:
        return None
    client_context(str(settings.proxy_ca_file))  # SSLError now, and not at the first request of a server
    trust = write_trust(settings.state_dir / ".trust", settings.proxy_ca_file.read_bytes(), environ)
    return Outbound(proxy=settings.proxy, token_file=settings.proxy_token_file, trust=trust)


def _folder_of(npm: str, environ: Mapping[str, str]) -> Path | None:
    found = shutil.which(npm, path=environ.get("PATH", os.defpath))
    return None if found is None else Path(found).absolute().parent
