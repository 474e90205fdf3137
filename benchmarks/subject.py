"""What a subject of the benchmark is: something that can be started as an explicit proxy."""

import itertools
import random
import socket
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.certificates import Certificates
from benchmarks.plan_pushes import PlanPushes
from benchmarks.workloads.workload import Way

ROOT = Path(__file__).resolve().parent.parent

# Below those that systems give to connections and to whoever asks for any: what was free would be another's before its
# subject has started. Tried in this order, each once.
_PORTS = range(15_000, 32_768)
_ports = iter(random.sample(_PORTS, len(_PORTS)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What every subject is told. `credential` is the value the origin demands; it guards nothing real.

    At `origin_tls_port` the same origin shows a certificate that the file `origin_ca` vouches for. `certificates` is
    what the subject shows clients itself.
    """

    directory: Path
    host: str
    origin_port: int
    credential: str
    origin_tls_port: int
    origin_ca: Path
    certificates: Certificates


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Where a client enters that does not speak plain HTTP to a proxy, and how.

    With `authority` it begins with a CONNECT to it, which carries `token` where there is one. With `ca_file` TLS
    follows, with a certificate that this file vouches for. `sessions` are those whose CPU time counts.
    """

    port: int
    authority: str = ""
    token: str = ""
    ca_file: Path | None = None
    sessions: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSide:
    """A gateway's tunnel listener, and what the other end of a tunnel needs.

    The load and sandboxd each come as a sandbox of their own, because a sandbox has one tunnel. `sandboxd` is how
    that program is started; its settings are variables.
    """

    tunnel_port: int
    load_token: str
    sandboxd_token: str
    sandboxd: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Controlled:
    """A further gateway of the same code, which lives by a control plane. `told` is what that one is told.

    `command` starts it once it is known where the control plane is, which a variable says. By the admin listener its
    credential is made cold again.
    """

    command: tuple[str, ...]
    told: Mapping[str, object]
    port: int
    admin_port: int
    proxy_token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """A gateway whose tunnels do nothing: one for each of `tokens`, by TLS where there is `ca_file`."""

    command: tuple[str, ...]
    port: int
    tokens: list[str]
    ca_file: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How to start a subject, and where it will listen. `proxy_token` is empty where none is needed.

    `doors` are the further ways in that it has; `sandbox` is there where tunnels are taken; `plan_tokens` are the proxy
    tokens of sandboxes whose plans have so many routes. `processes` is how many serve.
    `plan_pushes` replaces a plan of such a sandbox. `controlled` is there where a control plane is listened to.
    `idle` makes ready a gateway for so many tunnels, with TLS or without.
    """

    command: tuple[str, ...]
    port: int
    proxy_token: str = ""
    doors: Mapping[Way, Door] = field(default_factory=dict)
    sandbox: SandboxSide | None = None
    plan_tokens: Mapping[int, str] = field(default_factory=dict)
    processes: int = 1
    plan_pushes: PlanPushes | None = None
    controlled: Controlled | None = None
    idle: Callable[[int, bool], Idle] | None = None


class Subject(Protocol):
    name: str

    def missing(self) -> str | None:
        """Return why this subject cannot run here and how to get it, or None."""

    def version(self) -> str:
        """Return the version as the program states it; only asked when it is not missing."""

    def prepare(self, site: Site) -> Launch:
        """Write its configuration into `site.directory` (its own, empty) and return how to start it."""


class _Template(string.Template):
    delimiter = "@"  # nginx, YAML and Envoy's own formats use $ and %


def write_config(site: Site, template: Path, **values: object) -> Path:
    """Write `template` into the site's directory with every `@{name}` replaced; unknown names raise KeyError."""
    path = site.directory / template.name
    path.write_text(_Template(template.read_text()).substitute(values))
    return path


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Return so many of them, each another one, and none that was returned before."""
    return list(itertools.islice(filter(_is_free, _ports), count))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
