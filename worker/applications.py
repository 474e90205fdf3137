"""Which applications there are and which run: one per sandbox, a newer revision supersedes."""

import secrets
from collections.abc import Callable, Coroutine
from typing import Final

from sallyport.net.tasks import TaskSet
from worker.application import Application, ApplicationState

# What a person may still want to look at; the oldest that have ended go first. About 2 KiB each.
MAX_APPLICATIONS: Final = 10_000


class NoSuchApplication(Exception):
    """No application has this id, or it ended long ago."""


class NotPossible(Exception):
    """What was asked for does not fit the application's state; str() says why and what to do."""


class TooManyApplications(Exception):
    """Every place is taken by one that still runs."""


class Applications:
    """The applications of this process. `run` does the work of one; it is a task of `tasks`."""

    def __init__(
        self,
        run: Callable[[Application], Coroutine[object, object, None]],
        tasks: TaskSet,
        *,
        wall: Callable[[], float],
        max_applications: int = MAX_APPLICATIONS,
    ) -> None:
        self._run = run
        self._tasks = tasks
        self._wall = wall
        self._max_applications = max_applications
        self._known: dict[str, Application] = {}
        # The one that runs, by sandbox, and what ends it.
        self._running: dict[str, tuple[Application, Callable[[], object]]] = {}

    def begin(self, sandbox_id: str, revision: int) -> Application:
        """Begin an application; the same revision again is the one that runs.

        Raises NotPossible for a revision older than the one that runs, TooManyApplications.
        """
        current = self._running.get(sandbox_id)
        if current is not None:
            running = current[0]
            if running.revision == revision:
                return running
            if running.revision > revision:
                raise NotPossible(f"revision {running.revision} is being applied already; send a newer one")
        self._make_room()
        if current is not None:
            self._stop(current[0], ApplicationState.SUPERSEDED)
        application = Application(
            application_id=f"app_{secrets.token_hex(12)}", sandbox_id=sandbox_id, revision=revision, wall=self._wall
        )
        self._known[application.application_id] = application
        task = self._tasks.spawn(self._run(application), name=f"plan application {application.application_id}")
        self._running[sandbox_id] = (application, task.cancel)
        task.add_done_callback(lambda _: self._ended(application))
        return application

    def find(self, application_id: str) -> Application:
        """Return an application; raises NoSuchApplication."""
        try:
            return self._known[application_id]
        except KeyError:
            raise NoSuchApplication(f"no application is called {application_id}") from None

    def cancel(self, application_id: str) -> Application:
        """Stop an application where it is; what it did stays done. Raises NoSuchApplication, NotPossible."""
        application = self.find(application_id)
        if application.has_ended:
            raise NotPossible(f"the application has ended: {application.state.value}")
        self._stop(application, ApplicationState.CANCELLED)
        return application

    def last_good(self, application_id: str) -> int:
        """Return the revision to go back to from an application; raises NoSuchApplication, NotPossible."""
        application = self.find(application_id)
        earlier = [
            each.revision
            for each in self._known.values()
            if each.sandbox_id == application.sandbox_id
            and each.state is ApplicationState.APPLIED
            and each.revision < application.revision
        ]
        if not earlier:
            raise NotPossible("no earlier revision was applied by this worker; post the plan you want as a new one")
        return max(earlier)

    def _stop(self, application: Application, state: ApplicationState) -> None:
        application.move(state)
        running = self._running.get(application.sandbox_id)
        if running is not None and running[0] is application:
            del self._running[application.sandbox_id]
            running[1]()

    def _ended(self, application: Application) -> None:
        running = self._running.get(application.sandbox_id)
        if running is not None and running[0] is application:
            del self._running[application.sandbox_id]
        # Its task ended without a word: the process stops, or a defect was logged.
        application.move(ApplicationState.FAILED)

    def _make_room(self) -> None:
        if len(self._known) < self._max_applications:
            return
        for application_id, application in self._known.items():
            if application.has_ended:
                del self._known[application_id]
                return
        raise TooManyApplications(f"{self._max_applications} applications run already")

    def __repr__(self) -> str:
        return f"<Applications: {len(self._running)} run, {len(self._known)} known>"
