"""The rows by a tunnel or a door: what runs beside the gateway for them, and who carries which load."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from benchmarks.control_side import ControlSide
from benchmarks.door_order import DoorOrder
from benchmarks.idle_load import IdleOrder
from benchmarks.load import Tally
from benchmarks.pace import Pace
from benchmarks.processes import Cores, HelperProgram, Processes
from benchmarks.subject import Controlled, Door, Idle, Launch, SandboxSide, free_port
from benchmarks.tunnel_load import Beside, TunnelOrder
from benchmarks.workloads.workload import HOST, PLACEHOLDER, Way, Workload

_SECURE = f"{HOST}:443"
# Some are opened before memory is looked at.
_LEAST_IDLE = 32
_CLEAR = f"{HOST}:80"
_BY_A_DOOR = {Way.SANDBOXD, Way.CHAIN, Way.TLS, Way.OPAQUE, Way.CONTROLLED}
# As small_get, the requests inside are http:// ones: what is compared is the way in, not TLS to the origin.
_DECLARED = "intercepted; revision=1; cleartext"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """A subject as these rows see it: where it takes tunnels, whose session that is, and its doors."""

    tunnel_port: int = 0
    token: str = ""
    session: int = 0
    control: ControlSide | None = None
    idle: Callable[[int, bool], Idle] | None = None
    doors: Mapping[Way, Door] = field(default_factory=dict)

    def has(self, way: Way) -> bool:
        """Say whether the rows of `way` can be measured here."""
        if way is Way.IDLE:
            return self.idle is not None
        return self.tunnel_port != 0 if way is Way.TUNNEL else way in self.doors


NOWHERE = Spot()


class SandboxRows:
    """Starts sandboxds and relays beside the subjects, on their core, and measures through them."""

    def __init__(
        self,
        processes: Processes,
        cores: Cores,
        directory: Path,
        workloads: Sequence[Workload],
        origin_ca: Path,
        origin_port: int,
        tls_port: int,
    ) -> None:
        self._processes = processes
        self._cores = cores
        self._directory = directory
        self._ways = {workload.way for workload in workloads}
        self._origin_port = origin_port
        self._tls_port = tls_port
        self._origin_ca = origin_ca
        self._tunnel_load: HelperProgram | None = None
        self._door_load: HelperProgram | None = None
        self._idle_load: HelperProgram | None = None
        self._idle_started = 0
        if Way.IDLE in self._ways:
            self._idle_load = processes.start_helper("benchmarks.idle_load", cores.load)
        if Way.TUNNEL in self._ways:
            self._tunnel_load = processes.start_helper("benchmarks.tunnel_load", cores.load)
        if self._ways & _BY_A_DOOR:
            self._door_load = processes.start_helper("benchmarks.door_load", cores.load)
        self._stand_in = 0
        for workload in workloads:
            if workload.way is Way.SANDBOXD:
                self._stand_in = self._start_stand_in(workload)

    def _start_stand_in(self, workload: Workload) -> int:
        helper = self._processes.start_helper("benchmarks.gateway_end", self._cores.load)
        request = workload.direct_request(PLACEHOLDER).decode("latin-1")
        answer = workload.answer().decode("latin-1")
        port: int = helper.ask({"host": HOST, "request": request, "answer": answer})["port"]
        return port

    def direct(self) -> Spot:
        """The load speaks to the origin itself."""
        by_tls = Door(port=self._tls_port, ca_file=self._origin_ca)
        return Spot(doors={Way.CHAIN: by_tls, Way.TLS: by_tls, Way.OPAQUE: Door(port=self._origin_port)})

    def start_relays(self, name: str) -> Spot:
        """Start two relays in a row before the origin; BenchmarkError."""
        port, sessions = self._tls_port, []
        for number in (2, 1):
            port, next_port = free_port(), port
            sessions.append(
                self._processes.start_subject(f"{name}-{number}", _relay(port, next_port), (self._cores.proxy,))
            )
        return Spot(doors={Way.CHAIN: Door(port=port, ca_file=self._origin_ca, sessions=sessions)})

    def start_beside(self, name: str, launch: Launch, session: int) -> Spot:
        """Return the spot of a subject that runs; start the sandboxds that the rows need beside it. BenchmarkError."""
        doors = {way: replace(door, sessions=[session]) for way, door in launch.doors.items()}
        side = launch.sandbox
        if side is None:
            return Spot(doors=doors)
        if Way.SANDBOXD in self._ways:
            doors[Way.SANDBOXD] = self._start_sandboxd(f"{name}-sandboxd", side, self._stand_in, [])
        if Way.CHAIN in self._ways:
            doors[Way.CHAIN] = self._start_sandboxd(f"{name}-chain", side, side.tunnel_port, [session])
        control = None
        if Way.CONTROLLED in self._ways and launch.controlled is not None:
            control, doors[Way.CONTROLLED] = self._start_controlled(f"{name}-controlled", launch.controlled)
        return Spot(
            tunnel_port=side.tunnel_port,
            token=side.load_token,
            session=session,
            doors=doors,
            control=control,
            idle=launch.idle,
        )

    def _start_controlled(self, name: str, controlled: Controlled) -> tuple[ControlSide, Door]:
        program = self._processes.start_helper("benchmarks.control_end", self._cores.load)
        url = f"http://127.0.0.1:{program.ask(controlled.told)['port']}"
        launch = Launch(command=("env", f"SALLYPORT_CONTROL_URL={url}", *controlled.command), port=controlled.port)
        session = self._processes.start_subject(name, launch, (self._cores.proxy,))
        door = Door(port=controlled.port, token=controlled.proxy_token, sessions=[session])
        return ControlSide(program=program, admin_port=controlled.admin_port), door

    def _start_sandboxd(self, name: str, side: SandboxSide, gateway_port: int, further: list[int]) -> Door:
        directory = self._directory / name
        directory.mkdir()
        token = directory / "token"
        token.write_text(side.sandboxd_token)
        port = free_port()
        variables = {
            "GATEWAY_URL": f"ws://127.0.0.1:{gateway_port}",
            "TOKEN_FILE": token,
            "STATE_DIR": directory / "state",
            "LISTEN": f"127.0.0.1:{port}",
        }
        settings = (f"SALLYPORT_{key}={value}" for key, value in variables.items())
        launch = Launch(command=("env", *settings, *side.sandboxd), port=port)
        session = self._processes.start_subject(name, launch, (self._cores.proxy,))
        ca_file = directory / "state" / "ca.pem"
        return Door(port=port, authority=_SECURE, ca_file=ca_file, sessions=[session, *further])

    def measure(self, spot: Spot, workload: Workload, request: bytes, pace: Pace, links: int) -> Tally:
        """Measure one row at a spot that has it. Whose CPU time counts is filled in here."""
        match workload.way:
            case Way.TUNNEL:
                return self._measure_tunnel(spot, workload, request, pace, links)
            case Way.IDLE:
                return self._measure_idle(spot, workload, request, pace, links)
            case Way.CONTROLLED:
                return self._measure_controlled(spot, workload, pace, links)
        return self._enter(spot.doors[workload.way], workload, request, pace, links)

    def _measure_tunnel(self, spot: Spot, workload: Workload, request: bytes, pace: Pace, links: int) -> Tally:
        assert self._tunnel_load is not None, "there is one for each way that was asked for"
        order = TunnelOrder(
            port=spot.tunnel_port,
            token=spot.token,
            authority=_CLEAR,
            declared=_DECLARED,
            streams=links,
            request=request.decode("latin-1"),
            answer_bytes=len(workload.answer_body),
            has_ticks=workload.tick_seconds > 0,
            beside=_beside(workload),
            pace=replace(pace, sessions=[spot.session]),
        )
        return Tally(**self._tunnel_load.ask(asdict(order)))

    def _measure_controlled(self, spot: Spot, workload: Workload, pace: Pace, links: int) -> Tally:
        """Measure a gateway that has just forgotten its credential, and count how often it asks for it."""
        assert spot.control is not None, "the spot has this row"
        door = spot.doors[workload.way]
        before = spot.control.count()
        spot.control.make_cold()
        tally = self._enter(door, workload, workload.proxied_request(door.token), pace, links)
        tally.resolutions = spot.control.count() - before
        return tally

    def _enter(self, door: Door, workload: Workload, request: bytes, pace: Pace, links: int) -> Tally:
        assert self._door_load is not None, "there is one for each way that was asked for"
        order = DoorOrder(
            port=door.port,
            authority=door.authority,
            host=HOST,
            token=door.token,
            ca_file="" if door.ca_file is None else str(door.ca_file),
            links=links,
            cold=workload.cold,
            at_once=workload.way is Way.CONTROLLED,
            request=request.decode("latin-1"),
            answer_bytes=len(workload.answer_body),
            pace=replace(pace, sessions=door.sessions),
        )
        return Tally(**self._door_load.ask(asdict(order)))

    def _measure_idle(self, spot: Spot, workload: Workload, request: bytes, pace: Pace, links: int) -> Tally:
        """Measure a gateway that is new: memory that was given back would be given again, and not be seen."""
        assert spot.idle is not None, "the spot has this row"
        assert self._idle_load is not None, "there is one for each way that was asked for"
        idle = spot.idle(max(links, _LEAST_IDLE), workload.is_secure)
        self._idle_started += 1
        session = self._processes.start_subject(
            f"idle-{self._idle_started}", Launch(command=idle.command, port=idle.port), (self._cores.proxy,)
        )
        order = IdleOrder(
            port=idle.port,
            host=HOST,
            ca_file="" if idle.ca_file is None else str(idle.ca_file),
            tokens=idle.tokens,
            authority=_CLEAR,
            declared=_DECLARED,
            request=request.decode("latin-1"),
            answer_bytes=len(workload.answer_body),
            session=session,
            core=pace.core,
        )
        try:
            return Tally(**self._idle_load.ask(asdict(order)))
        finally:
            self._processes.stop_subject(session)


def _beside(workload: Workload) -> Beside | None:
    if workload.beside is None:
        return None
    return Beside(
        streams=workload.beside_streams,
        request=workload.beside.direct_request(PLACEHOLDER).decode("latin-1"),
        answer_bytes=len(workload.beside.answer_body),
        bytes_per_second=workload.beside_bytes_per_second,
    )


def _relay(port: int, next_port: int) -> Launch:
    return Launch(command=(sys.executable, "-m", "benchmarks.relay", str(port), str(next_port)), port=port)
