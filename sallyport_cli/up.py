"""`sallyport up`: every part as a process of its own on this machine, over one data directory."""

import asyncio
import json as json_format
import random
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import quote

import typer

from sallyport_cli import config as surroundings
from sallyport_cli.failure import bad_input, environment
from sallyport_cli.files import read_file
from sallyport_cli.output import JsonFlag, show_json, show_table
from sallyport_cli.up_directory import UpDirectory

if TYPE_CHECKING:
    from control_client.documents import DocumentSession
    from sallyport_cli.supervisor import Part, Supervisor

# Where the parts listen unless told otherwise (docs/settings.md); 0 asks for any free port.
PORTS: Final = {
    **{"control": 7500, "worker": 4200, "front": 4201},
    **{"proxy": 3128, "tunnel": 8443, "admin": 9900, "sandboxd": 3129},
}
# Below those that systems give to connections, one of which could take a port before its part has started.
FREE_PORTS: Final = range(15_000, 32_768)
# How long open exchanges may finish after Ctrl-C; shorter than the supervisor's patience, or they would be cut by it.
DRAIN_SECONDS: Final = 8
NO_PLAN_SANDBOX: Final = "sbx_local"
NO_PLAN_ORGANIZATION: Final = "org_local"


def up(
    data_dir: Annotated[Path, typer.Option(help="Everything that is kept lies here.")] = Path(".sallyport"),
    plan: Annotated[Path | None, typer.Option(help="A compiled plan to apply to its sandbox.")] = None,
    credential: Annotated[
        list[str] | None,
        typer.Option(help="A connection and where its value is: con_x=env:NAME or con_x=file:PATH; may be repeated."),
    ] = None,
    gateway_config: Annotated[
        Path | None, typer.Option(help="Further settings of the gateway (docs/settings.md).")
    ] = None,
    sandbox: Annotated[bool, typer.Option(help="Run sandboxd here as well.")] = True,
    free_ports: Annotated[bool, typer.Option("--free-ports", help="Listen on any free ports.")] = False,
    json: JsonFlag = False,
) -> None:
    """Run control plane, gateway, worker and sandboxd here until Ctrl-C, each as a process of its own.

    Their logs are printed with their names in front. A part that dies is started again; when one dies too often, all
    are stopped. With --json the addresses are printed as one JSON document and the logs go to standard error.
    """
    from sallyport_cli.standalone import keep_environment_private

    order = _Order(
        plan=None if plan is None else _plan(plan),
        credentials=tuple(_credential(text) for text in credential or ()),
        withheld=frozenset(text.partition("=env:")[2] for text in credential or ()),
        gateway_settings={} if gateway_config is None else _settings(gateway_config),
        with_sandboxd=sandbox,
    )
    keep_environment_private()
    directory = UpDirectory(data_dir.absolute())
    ports = _free_ports() if free_ports else PORTS
    asyncio.run(_Up(directory, ports, order, as_json=json).run())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """What `up` was told to bring about."""

    plan: dict[str, object] | None
    credentials: tuple[tuple[str, str], ...]
    # Variables that hold credentials: the control plane keeps these from now on, and no part is given them.
    withheld: frozenset[str]
    gateway_settings: Mapping[str, object]
    with_sandboxd: bool

    def __repr__(self) -> str:
        return f"<_Order {[name for name, _ in self.credentials]}>"


class _Up:
    """One run of `sallyport up`."""

    def __init__(self, directory: UpDirectory, ports: Mapping[str, int], order: _Order, *, as_json: bool) -> None:
        self._directory = directory
        self._addresses = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
        self._order = order
        self._as_json = as_json

    async def run(self) -> None:
        """Start everything and stay until a signal; raises Failure."""
        from sallyport_cli.supervisor import PartFailed, Supervisor

        supervisor = Supervisor(self._show_log)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, supervisor.end)
        supervisor.spawn(self._start(supervisor), name="start")
        try:
            await supervisor.ended
        except PartFailed as failed:
            raise environment(str(failed), "the part's own words stand above") from None
        finally:
            await supervisor.stop()

    async def _start(self, supervisor: "Supervisor") -> None:
        """Bring the parts up one after the other; each finds the ones before it ready."""
        from sallyport_cli import bring_about

        for folder in (self._directory.control_plane, self._directory.gateway, self._directory.sandbox):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        await supervisor.start(self._control_plane())
        await supervisor.start(self._gateway())
        await supervisor.start(self._worker())
        session = self._session()
        sandbox_id, organization_id = self._sandbox()
        await asyncio.to_thread(bring_about.ensure_sandbox, session, sandbox_id, organization_id)
        for connection_id, value in self._order.credentials:
            await asyncio.to_thread(bring_about.ensure_connection, session, organization_id, connection_id, value)
        if self._order.plan is not None:
            revision = await asyncio.to_thread(bring_about.store_plan, session, self._order.plan)
            await asyncio.to_thread(bring_about.apply_plan, f"http://{self._addresses['worker']}", sandbox_id, revision)
        await asyncio.to_thread(self._write_sandbox_token, session, sandbox_id)
        if self._order.with_sandboxd:
            await supervisor.start(self._sandboxd())
        self._show_addresses(sandbox_id)

    def _sandbox(self) -> tuple[str, str]:
        plan = self._order.plan
        if plan is None:
            return NO_PLAN_SANDBOX, NO_PLAN_ORGANIZATION
        return str(plan["sandboxId"]), str(plan["organizationId"])

    # The parts --------------------------------------------------------------------------------------

    def _control_plane(self) -> "Part":
        return self._part(
            "control-plane",
            ("control-plane", "serve"),
            {
                "SALLYPORT_DATA_DIR": str(self._directory.control_plane),
                "SALLYPORT_API_LISTEN": self._addresses["control"],
            },
            f"http://{self._addresses['control']}/readyz",
        )

    def _gateway(self) -> "Part":
        settings = self._directory.gateway / "gateway.yaml"
        settings.write_text(json_format.dumps(self._gateway_settings(), indent=2), encoding="utf-8")  # JSON is YAML
        return self._part(
            "gateway", ("gateway", "--config", str(settings)), {}, f"http://{self._addresses['admin']}/readyz"
        )

    def _gateway_settings(self) -> dict[str, object]:
        folder = self._directory.gateway
        ours: dict[str, object] = {
            "listen": {name: self._addresses[name] for name in ("proxy", "tunnel", "admin")},
            "control": {
                "url": self._control_url,
                "token_file": str(self._directory.service_token("gateway")),
                "gateway_id": "gw_local",
                "admin_url": f"http://{self._addresses['admin']}",
                "state_dir": str(folder / "state"),
            },
            "audit": {"path": str(folder / "audit.jsonl")},
            "timeouts": {"drain": f"{DRAIN_SECONDS}s"},
        }
        return _over(ours, self._order.gateway_settings)

    def _worker(self) -> "Part":
        return self._part(
            "worker",
            ("worker",),
            {
                "SALLYPORT_WORKER_LISTEN": self._addresses["worker"],
                "SALLYPORT_WORKER_FRONT_LISTEN": self._addresses["front"],
                "SALLYPORT_WORKER_DATA_DIR": str(self._directory.worker),
                "SALLYPORT_WORKER_CONTROL_URL": self._control_url,
                "SALLYPORT_WORKER_CONTROL_TOKEN_FILE": str(self._directory.service_token("worker")),
                "SALLYPORT_WORKER_INTEGRATIONS_STATE_DIR": str(self._directory.worker),
            },
            f"http://{self._addresses['worker']}/readyz",
        )

    def _sandboxd(self) -> "Part":
        return self._part(
            "sandboxd",
            ("sandboxd",),
            {
                "SALLYPORT_LISTEN": self._addresses["sandboxd"],
                "SALLYPORT_GATEWAY_URL": f"ws://{self._addresses['tunnel']}",
                "SALLYPORT_TOKEN_FILE": str(self._directory.sandbox_token),
                "SALLYPORT_STATE_DIR": str(self._directory.sandbox / "state"),
                "SALLYPORT_TIMEOUTS_DRAIN": f"{DRAIN_SECONDS}s",
            },
            f"http://{self._addresses['sandboxd']}/healthz",
        )

    def _part(self, name: str, arguments: tuple[str, ...], settings: dict[str, str], ready_url: str) -> "Part":
        from sallyport_cli.supervisor import Part

        # -P: a folder called `gateway` where the user happens to stand is not ours.
        command = (sys.executable, "-P", "-m", "sallyport_cli.main", *arguments)
        inherited = surroundings.without_settings(surroundings.inherited())
        kept = {name: value for name, value in inherited.items() if name not in self._order.withheld}
        return Part(name=name, command=command, environment=kept | settings, is_ready=lambda: _answers(ready_url))

    # What is told -----------------------------------------------------------------------------------

    @property
    def _control_url(self) -> str:
        return f"http://{self._addresses['control']}"

    def _session(self) -> "DocumentSession":
        from control_client.documents import DocumentSession

        token = read_file(self._directory.operator_token).decode("ascii").strip()
        return DocumentSession(self._control_url, token)

    def _write_sandbox_token(self, session: "DocumentSession", sandbox_id: str) -> None:
        from sallyport.net.whole_file import replace_file
        from sallyport_cli import bring_about

        minted = bring_about.post(session, f"/v1/sandboxes/{quote(sandbox_id)}/tokens", {"kind": "tunnel"})
        content = {"token": minted["token"], "renewalToken": minted["renewalToken"]}
        replace_file(self._directory.sandbox_token, json_format.dumps(content).encode(), mode=0o600)

    def _show_addresses(self, sandbox_id: str) -> None:
        """Say where everything is, last: whoever reads it may begin."""
        from sallyport.net.whole_file import replace_file

        document = {
            "sandboxId": sandbox_id,
            "controlPlane": self._control_url,
            "worker": f"http://{self._addresses['worker']}",
            "front": f"http://{self._addresses['front']}",
            "proxy": f"http://{self._addresses['proxy']}",
            "tunnel": f"ws://{self._addresses['tunnel']}",
            "admin": f"http://{self._addresses['admin']}",
            "sandboxd": f"http://{self._addresses['sandboxd']}" if self._order.with_sandboxd else None,
            "tokenFile": str(self._directory.sandbox_token),
        }
        replace_file(self._directory.addresses, json_format.dumps(document, indent=2).encode(), mode=0o600)
        if self._as_json:
            show_json(document)
            sys.stdout.flush()
            return
        show_table(("part", "address"), [(name, str(value or "not here")) for name, value in document.items()])
        if self._order.with_sandboxd:
            sandboxd = self._addresses["sandboxd"]
            typer.echo(f"Try: sallyport run --sandboxd {sandboxd} -- curl https://api.example.com/\nCtrl-C ends it.")

    def _show_log(self, name: str, line: str) -> None:
        typer.echo(f"{name:<13} | {line}", err=True)


def _answers(url: str) -> bool:
    from control_client.documents import DocumentError, DocumentSession

    base, slash, path = url.rpartition("/")
    try:
        DocumentSession(base, timeout_seconds=1.0).ask("GET", slash + path)
    except DocumentError:
        return False
    return True


# What the command was given ---------------------------------------------------------------------------


def _plan(path: Path) -> dict[str, object]:
    from sallyport.plan.codec import PlanError, parse_plan, seal

    try:
        document = json_format.loads(read_file(path))
        parse_plan(seal(document))
    except PlanError as error:
        raise bad_input(f"{path}: {len(error.issues)} faults", "\n".join(map(str, error.issues))) from None
    except (ValueError, TypeError):
        raise bad_input(f"{path} is not a JSON object", "`sallyport plan check` says more") from None
    return dict(document)


def _credential(text: str) -> tuple[str, str]:
    connection_id, equals, place = text.partition("=")
    kind, colon, where = place.partition(":")
    if not equals or not colon or kind not in ("env", "file") or not connection_id or not where:
        # The text is not repeated: whoever got the form wrong may have written the value itself.
        raise bad_input("--credential: write con_x=env:NAME or con_x=file:PATH")
    if kind == "file":
        return connection_id, read_file(Path(where)).decode("utf-8", "replace").removesuffix("\n")
    value = surroundings.inherited().get(where)
    if value is None:
        raise environment(f"--credential {connection_id}: the variable {where} is not set", "set it and start again")
    return connection_id, value


def _settings(path: Path) -> Mapping[str, object]:
    from sallyport_cli.settings import read_document

    return read_document(path)


def _over(ours: Mapping[str, object], given: Mapping[str, object]) -> dict[str, object]:
    """Lay what was given over our settings, section by section: who sets one of a section keeps the others."""
    merged = dict(ours)
    for name, value in given.items():
        section = merged.get(name)
        merged[name] = section | value if isinstance(section, dict) and isinstance(value, dict) else value
    return merged


def _free_ports() -> dict[str, int]:
    """Take ports that are free now; whoever takes one before its part does makes that part say so."""
    from sallyport.net.transports import ListenError, bind_tcp

    ports: dict[str, int] = {}
    for port in random.sample(FREE_PORTS, len(FREE_PORTS)):
        name = next(name for name in PORTS if name not in ports)
        try:
            bind_tcp("127.0.0.1", port).close()
        except ListenError:
            continue
        ports[name] = port
        if len(ports) == len(PORTS):
            return ports
    raise environment("there are no free ports", "end what listens on them, or leave out --free-ports")
