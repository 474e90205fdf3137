"""What the integrations of a worker share, and what each of them may cost."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass

from sallyport.mcp.sessions import McpSessions
from sallyport.net.line_child import StopTimes
from sallyport.net.tasks import TaskSet
from worker.integrations.launch import Surroundings
from worker.integrations.store import IntegrationStore


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTimes:
    """How long each phase of a server's life may take, in seconds."""

    handshake: float
    call: float
    ping: float
    stop: StopTimes
    first_restart: float
    longest_restart: float
    # One that ran this long has not crashed at its start: its failures are counted anew.
    stable: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """How much one server may cost."""

    crashes: int
    tools: int
    calls: int
    message_bytes: int
    log_lines: int
    log_line_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What every integration of a worker shares."""

    store: IntegrationStore
    tasks: TaskSet
    sessions: McpSessions  # of callers with programs, each a process; an owner's server is its integration's id
    around: Surroundings
    times: ServerTimes
    limits: ServerLimits
    trust: ssl.SSLContext
    wall: Callable[[], float]
