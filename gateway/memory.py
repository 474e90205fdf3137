"""What becomes of a gateway that holds too much memory: it resets streams of the sandboxes that hold most, and lives.

These sandboxes begin nothing new until there is room again. Where what they held is not enough, nobody does.
"""

import os
from pathlib import Path
from typing import Final

import structlog

from gateway.core.memory_limit import Held, MemoryLimit, choose_to_shed, limit_of_share
from gateway.open_streams import OpenStream
from gateway.parts import GatewayParts
from gateway.setting_kinds import MEMORY_CGROUP, MEMORY_OFF
from sallyport.net.clock import NEVER
from sallyport.net.process import return_memory

# Half a second of a full 10 Gbit/s link is 600 MB, but what is held at once has limits of its own.
LOOK_SECONDS: Final = 0.5
# What a cgroup without a limit has as its limit is a number that no machine has.
_NO_LIMIT_BYTES: Final = 1 << 50

_log = structlog.get_logger(__name__)


class MemoryWatch:
    """Looks at the process's memory by the clock; `parts.is_shedding` and `parts.shed_from` are what it found."""

    def __init__(self, parts: GatewayParts, limit_bytes: int) -> None:
        self._parts = parts
        self._limit = MemoryLimit(limit_bytes)
        self._shed_from: set[str | None] = set()  # since it was over the limit
        self.deadline_at = self.filed_at = NEVER
        # Open for good: without a descriptor it is needed most.
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")
        self._watch()

    def expire(self) -> None:
        """Look, and act on it."""
        self.look(self._resident_bytes())
        self._watch()

    def look(self, resident_bytes: int) -> None:
        """Shed where the process holds so much that it must."""
        parts = self._parts
        surplus = self._limit.look(resident_bytes)
        if surplus:
            shed = choose_to_shed(map(_held, parts.streams.all()), surplus)
            reset = sum(each.stream.shed() for each in shed)
            parts.metrics.streams_shed += reset
            parts.upstreams.close_idle(lambda _: True)
            parts.upstreams.forget_sessions()
            return_memory()
            if not parts.is_shedding:
                _log.error("memory_over_limit", resident=resident_bytes, limit=self._limit.limit_bytes, reset=reset)
            self._shed_from.update(each.owner for each in shed)
            parts.shed_from = self._shed_from if sum(each.size for each in shed) >= surplus else None
        elif parts.is_shedding:
            _log.warning("memory_recovered", resident=resident_bytes)
            self._shed_from.clear()
        parts.is_shedding = self._limit.is_over

    def close(self) -> None:
        """Look no more."""
        self.deadline_at = NEVER
        os.close(self._statm)

    def _resident_bytes(self) -> int:
        return int(os.pread(self._statm, 128, 0).split()[1]) * self._page_bytes

    def _watch(self) -> None:
        clock = self._parts.clock
        clock.watch(self, clock.now + LOOK_SECONDS)


def _held(stream: OpenStream) -> Held[str | None, OpenStream]:
    return Held(None if stream.claims is None else stream.claims.sandbox_id, stream.held_bytes, stream)


def memory_limit(setting: int | str, processes: int, root: Path = Path("/")) -> int | None:
    """Return how many bytes this process may hold by `limits.memory`, as one of so many; None: there is no limit."""
    if setting == MEMORY_OFF or not (root / "proc/self/statm").exists():
        return None
    if setting != MEMORY_CGROUP:
        return int(setting)
    found = [
        limit for path in _cgroup_files(root) if (limit := _read_limit(path)) is not None and limit < _NO_LIMIT_BYTES
    ]
    return limit_of_share(min(found), processes) if found else None


def _cgroup_files(root: Path) -> list[Path]:
    """Where the limit of this process's cgroup may stand: version 2 or 1, seen from a container or from outside."""
    mount = root / "sys/fs/cgroup"
    own = []
    try:
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                own.append(mount / path.lstrip("/") / "memory.max")
            elif "memory" in controllers.split(","):
                own.append(mount / "memory" / path.lstrip("/") / "memory.limit_in_bytes")
    except (OSError, ValueError):
        pass
    return [*own, mount / "memory.max", mount / "memory/memory.limit_in_bytes"]


def _read_limit(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # not there, or `max`
        return None
