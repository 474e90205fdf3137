"""Documents come, statuses go: the set-up of this sandbox over its whole life.

A document is announced, received, checked, kept and applied; a newer one takes the place of one that is still being
applied. None of it needs the tunnel once the document is here: statuses are sent when there is one again, and after a
restart what is kept is applied anew.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from sallyport.net.orphans import end_orphans
from sallyport.net.tasks import TaskSet
from sallyport.setup import SetupDocument, SetupError, parse_setup
from sandboxd.setup.announcement import NOT_ANNOUNCED, Announcement, read_announcement
from sandboxd.setup.application import Application, Running, process_step, write_shell_file
from sandboxd.setup.artifacts import Ledger
from sandboxd.setup.environment import MARK, environment_of
from sandboxd.setup.kept import KeptDocument, KeptDocuments
from sandboxd.setup.parts import RestartLimits, SetupParts
from sandboxd.setup.steps import StepState, refusal

# Changes within this time go in one status; the end of an application is told at once.
STATUS_SECONDS: Final = 0.25
# What all processes together have to end when sandboxd does; a container's runtime gives it 10 s before it kills.
CLOSE_SECONDS: Final = 8.0


class Setup:
    """The set-up of this sandbox. Call `restore` once before anything else, and `close` at the end.

    It is carried out where this process is: in the sandbox, by sandboxd or by its deputy there. `base_environment` is
    all that processes get before the document's own: PATH, HOME, the way out and its trust.
    Always: at most one application runs, and `_latest` is the newest document that was accepted.
    """

    def __init__(
        self,
        *,
        state_dir: Path,
        base_environment: Mapping[str, str],
        send_status: Callable[[Mapping[str, object]], None],
        tasks: TaskSet,
        restart_limits: RestartLimits | None = None,
    ) -> None:
        # The operator's path may have links in it; below it there are none.
        directory = state_dir.resolve() / "setup"
        self._mark = hashlib.sha256(str(directory).encode()).hexdigest()[:16]
        self.parts = SetupParts(
            directory=directory,
            environment={**environment_of(base_environment), MARK: self._mark},
            tasks=tasks,
            restart_limits=restart_limits or RestartLimits(),
        )
        self._send_status = send_status
        self._kept = KeptDocuments(directory)
        self._running: Running = {}
        self._announced: Announcement | None = None
        self._latest: KeptDocument | None = None
        self._application: Application | None = None
        self._applying: asyncio.Task[None] | None = None
        self._refusal: Mapping[str, object] | None = None
        self._status_timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    # From the gateway ----------------------------------------------------------------------------------------------

    def announce(self, message: Mapping[str, object]) -> None:
        """Take `setup.apply`; raises RemoteProtocolError for one that says nothing."""
        self._announced = read_announcement(message)
        if self._is_done_or_under_way(self._announced.revision, self._announced.digest):
            self._tell()

    def announced(self, revision: int) -> Announcement | None:
        """What was announced last, if it is of this revision."""
        known = self._announced
        return known if known is not None and known.revision == revision else None

    def document_received(self, revision: int, body: bytes) -> None:
        """Take an announced document; what is wrong with it is told by a status."""
        known = self.announced(revision)
        if self._is_closed:
            return
        if known is None or not known.is_of(body):
            self._refuse(revision, [NOT_ANNOUNCED])
            return
        try:
            document = parse_setup(body)
        except SetupError as error:
            self._refuse(revision, [str(issue) for issue in error.issues])
            return
        reason = self._reason_against(document, revision, known.digest)
        if reason is not None:
            self._refuse(revision, [reason])
        elif self._is_done_or_under_way(revision, known.digest):
            self._tell()
        else:
            self._accept(KeptDocument(document=document, digest=known.digest), body)

    def tunnel_ready(self) -> None:
        """Say again how things stand: what was sent while there was no tunnel is lost."""
        self._tell()
        if self._refusal is not None:
            self._send_status(self._refusal)

    # What is set up ------------------------------------------------------------------------------------------------

    @property
    def document(self) -> SetupDocument | None:
        """The newest document that was accepted: what it declares may be reached through the tunnel."""
        return None if self._latest is None else self._latest.document

    def environment_for(self, env: Mapping[str, str] | None) -> dict[str, str]:
        """Return the environment of a program that runs under the newest document."""
        declared = self._latest.document.environment if self._latest is not None else None
        return environment_of(self.parts.environment, declared, env)

    # The life of sandboxd ------------------------------------------------------------------------------------------

    async def restore(self) -> None:
        """End what an earlier sandboxd left running and begin to apply what it kept; OSError. Does not wait for it."""
        self.parts.directory.mkdir(parents=True, exist_ok=True)
        end_orphans(MARK, self._mark)
        documents = [kept for kept in (self._kept.applied(), self._kept.pending()) if kept is not None]
        if documents:
            self._begin(documents)
        else:
            write_shell_file(self.parts, {})

    async def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Stop every process as it is declared to be stopped; whatever lives on after `seconds` is killed."""
        self._is_closed = True
        if self._status_timer is not None:
            self._status_timer.cancel()
        if self._applying is not None:
            self._applying.cancel()
            await asyncio.wait({self._applying})
        processes = tuple(self._running.values())
        try:
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
                for process in processes:
                    group.create_task(process.stop(), name=f"stop {process.name}")
        except TimeoutError:
            for process in processes:
                process.kill()
                await process.stop()

    # Accepting and applying ----------------------------------------------------------------------------------------

    def _reason_against(self, document: SetupDocument, revision: int, digest: str) -> str | None:
        latest = self._latest
        if document.revision != revision:
            return f"/revision: the document is of revision {document.revision}"
        # Another sandbox's state: this one was made from an image of that one, and its revisions count anew.
        if latest is None or latest.document.sandbox_id != document.sandbox_id:
            return None
        if revision < latest.document.revision:
            return f"revision {latest.document.revision} is here already, which is newer"
        if revision == latest.document.revision and digest != latest.digest:
            return "another document of this revision is here already"
        return None

    def _is_done_or_under_way(self, revision: int, digest: str) -> bool:
        latest = self._latest
        if latest is None or latest.document.revision != revision or latest.digest != digest:
            return False
        return self._application is None or self._application.steps.state != "failed"

    def _accept(self, kept: KeptDocument, body: bytes) -> None:
        try:
            self._kept.keep_pending(body)
        except OSError:
            self._refuse(kept.document.revision, ["the state directory cannot be written to"])
            return
        self._begin([kept])

    def _begin(self, documents: Sequence[KeptDocument]) -> None:
        """Apply documents one after the other, in place of what is being applied."""
        before = self._applying
        if before is not None:
            before.cancel()
        self._latest = documents[-1]
        self._application = None
        self._refusal = None
        self._applying = self.parts.tasks.spawn(self._apply(documents, before), name="set-up")

    async def _apply(self, documents: Sequence[KeptDocument], before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait({before})
        for kept in documents:
            application = Application(
                self.parts,
                kept.document,
                self._running,
                ledger=Ledger(self.parts.directory / "installed.json"),
                on_change=self._changed,
                on_process_failed=self._process_failed,
            )
            self._application = application
            await application.run()
            if application.steps.state == "applied" and self._kept.pending() == kept:
                self._kept.settle()

    def _process_failed(self, name: str) -> None:
        """A process has ended for good after its step was done."""
        application, process = self._application, self._running.get(name)
        step = process_step(name)
        if application is None or process is None or process.issue is None or self._is_closed:
            return
        if application.steps.state_of(step) is StepState.DONE:
            application.steps.fail(step, process.issue)
            self._changed()

    # Statuses ------------------------------------------------------------------------------------------------------

    def _changed(self) -> None:
        if self._application is not None and self._application.steps.is_finished:
            self._tell()
        elif self._status_timer is None:
            self._status_timer = asyncio.get_running_loop().call_later(STATUS_SECONDS, self._tell)

    def _tell(self) -> None:
        if self._status_timer is not None:
            self._status_timer.cancel()
            self._status_timer = None
        if self._application is not None and not self._is_closed:
            self._send_status(self._application.steps.to_document())

    def _refuse(self, revision: int, issues: Sequence[str]) -> None:
        self._refusal = refusal(revision, issues)
        self._send_status(self._refusal)

    def __repr__(self) -> str:
        steps = self._application.steps if self._application is not None else "nothing"
        return f"<Setup: {steps}, {len(self._running)} processes>"
