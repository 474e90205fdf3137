"""One setup document carried out, step by step, against what is there already.

In this order: the variables, artifacts, workspaces, files of the runtime clients; then the processes that are no
longer declared are stopped and the declared ones started, each once its own needs are met; last, artifacts that are
no longer declared are removed, when nothing runs any more that may use them, the last one first. Artifacts that say
what they come after are installed beside the others. A step that fails leaves the others alone, save those that need
it; what ran before and is not replaced goes on running.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from sallyport.setup import Artifact, Process, RuntimeClient, SetupDocument
from sandboxd.setup.artifacts import Ledger, install, put_file, remove
from sandboxd.setup.environment import environment_of, shell_file
from sandboxd.setup.files import write_file
from sandboxd.setup.parts import SetupParts
from sandboxd.setup.process import Launch, SupervisedProcess
from sandboxd.setup.readiness import until_ready
from sandboxd.setup.steps import StepFailed, Steps, StepState
from sandboxd.setup.workspaces import clone

# Installations share the sandbox's processors and its one tunnel; more of them at once end no sooner.
MAX_STEPS_AT_ONCE: Final = 4

type Running = dict[str, SupervisedProcess]


@dataclass(frozen=True, slots=True)
class _PlannedStep:
    """What is to be done when the steps `after` have come to an end (None: all before it), if those it needs are done.

    Always: `after` names steps that stand earlier.
    """

    name: str
    act: Callable[[], Awaitable[None]]
    needs: Sequence[str] = ()
    after: Sequence[str] | None = None


class Application:
    """The application of one document. `running` is shared with those before and after it, by the processes' names."""

    def __init__(
        self,
        parts: SetupParts,
        document: SetupDocument,
        running: Running,
        *,
        ledger: Ledger,
        on_change: Callable[[], None],
        on_process_failed: Callable[[str], None],
    ) -> None:
        self.document = document
        self._parts = parts
        self._running = running
        ledger.declare([artifact.artifact_key for artifact in document.artifacts])
        self._ledger = ledger
        self._on_change = on_change
        self._on_process_failed = on_process_failed
        self._planned = list(self._plan())
        self.steps = Steps(document.revision, [step.name for step in self._planned])

    async def run(self) -> None:
        """Carry out every step that can be; what went wrong is in `steps`."""
        room = asyncio.Semaphore(MAX_STEPS_AT_ONCE)
        tasks: dict[str, asyncio.Task[None]] = {}
        # Whoever waits for these has waited for every step before.
        last: list[asyncio.Task[None]] = []
        async with asyncio.TaskGroup() as group:
            for step in self._planned:
                before = last if step.after is None else [tasks[name] for name in step.after]
                carrying_out = self._in_turn(step, tuple(before), room)
                task = tasks[step.name] = group.create_task(carrying_out, name=f"set-up step {step.name}")
                last = [task] if step.after is None else [*last, task]
        self._finish()

    def _finish(self) -> None:
        self.steps.is_finished = True
        self._on_change()

    async def _in_turn(self, step: _PlannedStep, before: Sequence[asyncio.Task[None]], room: asyncio.Semaphore) -> None:
        if before:
            await asyncio.wait(before)
        async with room:
            await self._carry_out(step)

    async def _carry_out(self, step: _PlannedStep) -> None:
        missing = [need for need in step.needs if self.steps.state_of(need) is not StepState.DONE]
        if missing:
            self._move(step.name, StepState.SKIPPED, f"needs {missing[0]}")
            return
        self._move(step.name, StepState.RUNNING)
        try:
            await step.act()
        except StepFailed as error:
            self._move(step.name, StepState.FAILED, str(error))
        except OSError as error:
            # The state directory or the disk.
            self._move(step.name, StepState.FAILED, f"the system refused it: {error.strerror or error}")
        except Exception:
            # A defect of ours. It is in the log; whoever waits for this revision must not wait for ever.
            self.steps.move(step.name, StepState.FAILED, "sandboxd failed; its log says why")
            self._finish()
            raise
        else:
            self._move(step.name, StepState.DONE)

    def _move(self, name: str, state: StepState, issue: str | None = None) -> None:
        self.steps.move(name, state, issue)
        self._on_change()

    # The plan ------------------------------------------------------------------------------------------------------

    def _plan(self) -> Iterator[_PlannedStep]:
        document, parts, ledger = self.document, self._parts, self._ledger
        environment = document.environment
        yield _PlannedStep("environment", self._write_environment)
        for artifact in document.artifacts:
            yield self._artifact_step(artifact)
        for source in document.workspace_sources:
            yield _PlannedStep(f"workspace{source.path}", partial(clone, parts, source, environment))
        for client in document.runtime_clients:
            if client.setup.files:
                yield _PlannedStep(f"files/{client.client_id}", partial(self._write_files, client))
        declared = {_name(client, process) for client in document.runtime_clients for process in client.processes}
        for name in [name for name in self._running if name not in declared]:
            yield _PlannedStep(f"stop/{name}", partial(self._stop, name))
        for client in document.runtime_clients:
            for process in client.processes:
                yield self._process_step(client, process)
        kept = {artifact.artifact_key for artifact in document.artifacts}
        removed = [key for key in reversed(ledger.installed_keys()) if key not in kept]
        for place, key in enumerate(removed):
            needs = [f"remove/{other}" for other in removed[:place] if key in _names_after(ledger.find(other))]
            yield _PlannedStep(f"remove/{key}", partial(remove, parts, ledger, key, environment), needs)

    def _artifact_step(self, artifact: Artifact) -> _PlannedStep:
        needs = [f"artifact/{key}" for key in _names_after(artifact)]
        act = partial(install, self._parts, self._ledger, artifact, self.document.environment)
        after = None if artifact.after is None else ["environment", *needs]
        return _PlannedStep(f"artifact/{artifact.artifact_key}", act, needs, after)

    def _process_step(self, client: RuntimeClient, process: Process) -> _PlannedStep:
        needs = [f"artifact/{artifact.artifact_key}" for artifact in self.document.artifacts]
        if client.setup.files:
            needs.append(f"files/{client.client_id}")
        cwd = f"{process.command.cwd}/" if process.command.cwd is not None else ""
        needs += [
            f"workspace{source.path}" for source in self.document.workspace_sources if cwd.startswith(f"{source.path}/")
        ]
        return _PlannedStep(process_step(_name(client, process)), partial(self._start, client, process), needs)

    # The steps -----------------------------------------------------------------------------------------------------

    async def _write_environment(self) -> None:
        write_shell_file(self._parts, self.document.environment)

    async def _write_files(self, client: RuntimeClient) -> None:
        for file in client.setup.files:
            put_file(file.path, file.content, file.mode, file.write_mode)

    async def _stop(self, name: str) -> None:
        await self._running[name].stop()
        del self._running[name]

    async def _start(self, client: RuntimeClient, process: Process) -> None:
        name = _name(client, process)
        launch = self._launch(client, process)
        current = self._running.get(name)
        if current is not None and (current.launch != launch or _has_failed(current)):
            await self._stop(name)
            current = None
        if current is None:
            current = SupervisedProcess(self._parts, name, launch, process, self._on_process_failed)
            self._running[name] = current
        current.declared = process
        await current.started()
        if not current.is_over:
            await until_ready(process.readiness, current.is_up)
        if current.issue is not None:
            raise StepFailed(current.issue)

    def _launch(self, client: RuntimeClient, process: Process) -> Launch:
        env = environment_of(self._parts.environment, self.document.environment, client.setup.env, process.command.env)
        args = (*process.command.args, *(client.setup.launch_args or ()))
        return Launch(args=args, env=env, cwd=process.command.cwd)


def process_step(name: str) -> str:
    """Name the step that starts a process."""
    return f"process/{name}"


def write_shell_file(parts: SetupParts, environment: Mapping[str, str]) -> None:
    """Write the variables for shells; raises OSError."""
    write_file(str(parts.shell_file), shell_file(parts.environment, environment), mode=0o644)


def _name(client: RuntimeClient, process: Process) -> str:
    return f"{client.client_id}/{process.process_key}"


def _names_after(artifact: Artifact | None) -> Sequence[str]:
    """The artifacts that one says it comes after."""
    return () if artifact is None or artifact.after is None else artifact.after


def _has_failed(process: SupervisedProcess) -> bool:
    """Whether it has to be started anew although it is declared as before; one that ended well has done its work."""
    return process.is_over and not process.has_ended_well
