"""What everything that carries out a set-up is given."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sallyport.net.tasks import TaskSet


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartLimits:
    """How a process that ends is started again: delays that double, and after some failures no more.

    A process that ran for `stable_seconds` has not failed to start, so its count begins anew. With these figures a
    process that cannot start is given up after about a minute.
    """

    first_delay_seconds: float = 0.5
    most_delay_seconds: float = 30.0
    stable_seconds: float = 30.0
    most_failures: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupParts:
    """The surroundings of a set-up. `environment` is that of every process, with the mark of this state directory."""

    directory: Path
    environment: Mapping[str, str]
    tasks: TaskSet
    restart_limits: RestartLimits = field(default_factory=RestartLimits)

    @property
    def logs(self) -> Path:
        """Where programs' output goes."""
        return self.directory / "logs"

    @property
    def shell_file(self) -> Path:
        """What a shell of the sandbox reads to have the variables."""
        return self.directory / "environment.sh"
