"""The data directory of `sallyport up`: what lies where in it. One place, so that other commands find it."""

import json
from dataclasses import dataclass
from pathlib import Path

from sallyport_cli.failure import bad_input, environment


@dataclass(frozen=True, slots=True)
class UpDirectory:
    """Paths below one data directory."""

    root: Path

    @property
    def control_plane(self) -> Path:
        """The control plane's own data: database, master keys."""
        return self.root / "control-plane"

    @property
    def operator_token(self) -> Path:
        """The service token of commands, for the control plane."""
        return self.service_token("cli")

    def service_token(self, caller: str) -> Path:
        """The service token of a part, for the control plane."""
        return self.control_plane / f"service-token.{caller}"

    @property
    def gateway(self) -> Path:
        """The gateway's settings, audit records, and what it keeps for when the control plane is away."""
        return self.root / "gateway"

    @property
    def worker(self) -> Path:
        """The worker's own data: plan applications, integration servers."""
        return self.root / "worker"

    @property
    def sandbox(self) -> Path:
        """What would lie inside the sandbox: sandboxd's token and its state."""
        return self.root / "sandbox"

    @property
    def sandbox_token(self) -> Path:
        """The token sandboxd starts with."""
        return self.sandbox / "token.json"

    @property
    def addresses(self) -> Path:
        """Where the parts listen, as JSON."""
        return self.root / "addresses.json"

    def control_url(self) -> str:
        """Return the control plane's address as `up` wrote it; raises Failure."""
        return self._address("controlPlane", "name --control and --token-file")

    def worker_url(self) -> str:
        """Return the worker's address as `up` wrote it; raises Failure."""
        return self._address("worker", "name --worker")

    def _address(self, part: str, otherwise: str) -> str:
        try:
            return str(json.loads(self.addresses.read_text(encoding="utf-8"))[part])
        except FileNotFoundError:
            raise environment(
                f"there is no {self.addresses}",
                f"start the parts with `sallyport up`, or {otherwise}",
            ) from None
        except (OSError, ValueError, KeyError, TypeError):
            raise bad_input(f"{self.addresses} cannot be read", "stop `sallyport up` and start it again") from None
