"""One run in time order: start all, prove that the origin refuses, measure in interleaved rounds, end all."""

import secrets
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.certificates import make_certificates
from benchmarks.figures import Row, Sample, order_of_round, summarize, take_sample
from benchmarks.load import Order, Tally
from benchmarks.pace import Pace
from benchmarks.plan_pushes import PlanPushes
from benchmarks.processes import BenchmarkError, Cores, HelperProgram, Processes
from benchmarks.registry import DIRECT, SUBJECTS, TWO_RELAYS, takes_part
from benchmarks.sandbox_side import NOWHERE, SandboxRows, Spot
from benchmarks.subject import Site
from benchmarks.workloads.workload import HOST, PLACEHOLDER, Way, Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Rounds, and the seconds of each part of one measurement."""

    rounds: int
    warm_seconds: float
    closed_seconds: float
    open_seconds: float


FULL = Timing(rounds=7, warm_seconds=0.5, closed_seconds=2.0, open_seconds=3.0)
QUICK = Timing(rounds=4, warm_seconds=0.25, closed_seconds=0.7, open_seconds=0.6)
# The chain has an open loop alone, and its p99 wants many answers.
_CHAIN_SECONDS_FACTOR = 2
# One request on one link: does it answer at all, and rightly?
_PROBE = Timing(rounds=1, warm_seconds=0.05, closed_seconds=0.05, open_seconds=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A subject that listens. `session` finds its CPU time; None for direct.

    `spot` is where the rows with a sandbox's side enter; `port` is 0 for what is measured in those rows alone.
    """

    name: str
    port: int
    session: int | None
    proxy_token: str
    spot: Spot = NOWHERE
    plan_tokens: Mapping[int, str] = field(default_factory=dict)
    plan_pushes: PlanPushes | None = None

    def has(self, workload: Workload) -> bool:
        """Say whether `workload` can be measured here."""
        if not takes_part(self.name, workload.name) or (
            workload.plan_routes and workload.plan_routes not in self.plan_tokens
        ):
            return False
        return self.port != 0 if workload.way is Way.PROXY else self.spot.has(workload.way)


@dataclass(slots=True, kw_only=True)
class Outcome:
    rows: list[Row] = field(default_factory=list)
    samples: dict[tuple[str, str], list[Sample | None]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    # Subjects that run, by the workload that they offer no way for.
    without: dict[str, list[str]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    # Of each window: the share of the proxy's core that something else used. High: the machine was not ours.
    foreign_shares: list[float] = field(default_factory=list)


class Run:
    """The state of one run: the helpers, the subjects that answer, what has been measured."""

    def __init__(
        self,
        processes: Processes,
        cores: Cores,
        directory: Path,
        say: Callable[[str], None],
        workloads: Sequence[Workload],
    ) -> None:
        self._processes = processes
        self._cores = cores
        self._directory = directory
        self._say = say
        self._credential = "sk-bench-" + secrets.token_hex(20)
        self._origin = processes.start_helper("benchmarks.origin", cores.load)
        self._load: HelperProgram = processes.start_helper("benchmarks.load", cores.load)
        self._origin_ca = directory / "origin-ca.pem"
        ports = self._origin.ask({"credential": self._credential, "ca_file": str(self._origin_ca)})
        self._origin_port: int = ports["port"]
        self._origin_tls_port: int = ports["tls_port"]
        self._workloads = workloads
        self._certificates = make_certificates(directory, HOST, datetime.now(UTC).timestamp())
        self._rows = SandboxRows(
            processes, cores, directory, workloads, self._origin_ca, self._origin_port, self._origin_tls_port
        )
        self.outcome = Outcome()

    def start(self, names: Sequence[str]) -> list[Running]:
        """Start every named subject that can be started; the others are named in `outcome.missing`."""
        running = []
        for name in names:
            if not any(takes_part(name, workload.name) for workload in self._workloads):
                continue
            try:
                subject = self._start_one(name)
                self._probe(subject)
            except BenchmarkError as error:
                self.outcome.missing[name] = str(error)
                self._say(f"missing: {name}: {error}")
            else:
                running.append(subject)
        return running

    def prove_refusal(self, workload: Workload) -> None:
        """Raise BenchmarkError unless the origin answers 401 to a request that no proxy wrote the credential into."""
        tally = self._ask(workload.direct_request(PLACEHOLDER), workload, self._origin_port, None, _PROBE, links=1)
        if tally.answered or "401 Unauthorized" not in tally.first_error:
            said = tally.first_error or f"{tally.answered} answers 200"
            raise BenchmarkError(f"the origin does not answer 401 to a request without the credential: {said}")

    def measure(self, subjects: Sequence[Running], timing: Timing) -> None:
        """Measure: every round measures every workload at every subject that has it, once."""
        by_name = {subject.name: subject for subject in subjects}
        pairs = [(each, subject) for each in self._workloads for subject in subjects if subject.has(each)]
        samples = self.outcome.samples
        samples |= {(workload.name, subject.name): [] for workload, subject in pairs}
        errors = dict.fromkeys(samples, 0)
        for workload in self._workloads:
            lacking = [
                each.name for each in subjects if takes_part(each.name, workload.name) and not each.has(workload)
            ]
            self.outcome.without |= {workload.name: lacking} if lacking else {}
        for number in range(timing.rounds):
            self._say(f"round {number + 1} of {timing.rounds}")
            for workload in self._workloads:
                having = [subject.name for subject in subjects if subject.has(workload)]
                for name in order_of_round(having, number):
                    tally = self._measure_one(by_name[name], workload, timing, workload.links)
                    sample = take_sample(tally, workload)
                    if sample is None and not tally.errors:
                        tally.errors, tally.first_error = 1, "no answer within the window"
                    samples[workload.name, name].append(sample)
                    errors[workload.name, name] += tally.errors
                    if tally.foreign_seconds is not None:
                        self.outcome.foreign_shares.append(tally.foreign_seconds / tally.seconds)
                    if tally.errors:
                        self._say(f"{workload.name}: {name}: {tally.errors} errors, the first: {tally.first_error}")
        for pair, taken in samples.items():
            good = [sample for sample in taken if sample is not None]
            self.outcome.rows.append(summarize(*pair, good, errors[pair]))

    def _start_one(self, name: str) -> Running:
        if name == DIRECT:
            return Running(name=DIRECT, port=self._origin_port, session=None, proxy_token="", spot=self._rows.direct())
        if name == TWO_RELAYS:
            return Running(name=name, port=0, session=None, proxy_token="", spot=self._rows.start_relays(name))
        subject = SUBJECTS[name]
        if reason := subject.missing():
            raise BenchmarkError(reason)
        directory = self._directory / name
        directory.mkdir()
        launch = subject.prepare(
            Site(
                directory=directory,
                host=HOST,
                origin_port=self._origin_port,
                credential=self._credential,
                origin_tls_port=self._origin_tls_port,
                origin_ca=self._origin_ca,
                certificates=self._certificates,
            )
        )
        self.outcome.versions[name] = subject.version()
        session = self._processes.start_subject(name, launch, self._cores.of(launch.processes))
        spot = self._rows.start_beside(name, launch, session)
        return Running(
            name=name,
            port=launch.port,
            session=session,
            proxy_token=launch.proxy_token,
            spot=spot,
            plan_tokens=launch.plan_tokens,
            plan_pushes=launch.plan_pushes,
        )

    def _probe(self, subject: Running) -> None:
        """Ask once by each way, kept links and new ones, or raise BenchmarkError."""
        for workload in {(each.way, each.cold): each for each in self._workloads if subject.has(each)}.values():
            tally = self._measure_one(subject, workload, _PROBE, links=1)
            if tally.errors:
                raise BenchmarkError(f"started, but does not answer {workload.name} rightly: {tally.first_error}")

    def _measure_one(self, subject: Running, workload: Workload, timing: Timing, links: int) -> Tally:
        if workload.way is not Way.PROXY:
            return self._measure_row(subject, workload, timing, links)
        if subject.session is None:
            request = workload.direct_request(self._credential)
        else:
            token = subject.plan_tokens.get(workload.plan_routes, subject.proxy_token)
            request = workload.proxied_request(token or _FOREIGN_TOKEN)
        if not workload.plan_pushes:
            return self._ask(request, workload, subject.port, subject.session, timing, links)
        assert subject.plan_pushes is not None, "who has such plans can have them replaced"
        with subject.plan_pushes.under_way() as pushed:
            tally = self._ask(request, workload, subject.port, subject.session, timing, links)
        if pushed.refused:
            tally.errors += len(pushed.refused)
            tally.first_error = tally.first_error or f"a plan was refused: {pushed.refused[0]}"
        return tally

    def _measure_row(self, subject: Running, workload: Workload, timing: Timing, links: int) -> Tally:
        # What changes nothing on the way has to be sent what the origin wants.
        changes_nothing = subject.session is None or workload.way is Way.OPAQUE
        request = workload.direct_request(self._credential if changes_nothing else PLACEHOLDER)
        if workload.way is Way.CHAIN:
            open_seconds = max(_PROBE.warm_seconds, timing.open_seconds * _CHAIN_SECONDS_FACTOR)
            timing = replace(timing, closed_seconds=0.0, open_seconds=open_seconds)
        pace = Pace(
            sessions=[],
            core=self._cores.proxy,
            warm_seconds=timing.warm_seconds,
            closed_seconds=timing.closed_seconds,
            open_seconds=timing.open_seconds,
            open_rate=workload.open_rate,
        )
        return self._rows.measure(subject.spot, workload, request, pace, links)

    def _ask(
        self, request: bytes, workload: Workload, port: int, session: int | None, timing: Timing, links: int
    ) -> Tally:
        order = Order(
            port=port,
            request=request.decode("latin-1"),
            answer_bytes=len(workload.answer_body),
            links=links,
            session=session,
            core=self._cores.proxy,
            warm_seconds=timing.warm_seconds,
            closed_seconds=timing.closed_seconds,
            open_seconds=timing.open_seconds,
            open_rate=workload.open_rate,
        )
        return Tally(**self._load.ask(asdict(order)))


# Peers ask for no token, but parse and remove one as long as the gateway's.
_FOREIGN_TOKEN = "e" * 360


def run(names: Sequence[str], workloads: Sequence[Workload], timing: Timing, cores: Cores) -> Outcome:
    """Carry a whole run out. Raises BenchmarkError when the run itself cannot be trusted."""

    def say(text: str) -> None:
        sys.stderr.write(text + "\n")

    with tempfile.TemporaryDirectory(prefix="sallyport-bench-") as kept, Processes(Path(kept)) as processes:
        this_run = Run(processes, cores, Path(kept), say, workloads)
        this_run.prove_refusal(workloads[0])
        subjects = this_run.start(names)
        this_run.measure(subjects, timing)
        return this_run.outcome
