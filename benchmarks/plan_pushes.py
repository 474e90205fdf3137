"""Pushing one plan after the other to a gateway that is under load, from the core of the load."""

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

# So often that each window has several, and so seldom that most requests meet none.
_PAUSE_SECONDS = 0.1
_ANSWER_SECONDS = 10.0


@dataclass(slots=True, kw_only=True)
class Pushed:
    """What became of the pushes of one measurement."""

    taken: int = 0
    refused: list[str] = field(default_factory=list)


class PlanPushes:
    """The plans of one sandbox, each a revision above the last one. `make` returns the document of a revision."""

    def __init__(self, admin_port: int, sandbox_id: str, make: Callable[[int], bytes]) -> None:
        self._admin_port = admin_port
        self._path = f"/v1/sandboxes/{sandbox_id}/plan"
        self._make = make
        self._revision = 1  # what the gateway started with

    @contextmanager
    def under_way(self) -> Iterator[Pushed]:
        """Push from now until the block is left, once at least."""
        pushed, ending = Pushed(), threading.Event()
        pushing = threading.Thread(target=self._push_until, args=(ending, pushed), name="plan pushes")
        pushing.start()
        try:
            yield pushed
        finally:
            ending.set()
            pushing.join()

    def _push_until(self, ending: threading.Event, pushed: Pushed) -> None:
        while True:
            try:
                self._push(pushed)
            except (OSError, http.client.HTTPException) as error:
                pushed.refused.append(f"{type(error).__name__}: {error}")
            if ending.wait(_PAUSE_SECONDS):
                return

    def _push(self, pushed: Pushed) -> None:
        self._revision += 1
        admin = http.client.HTTPConnection("127.0.0.1", self._admin_port, timeout=_ANSWER_SECONDS)
        try:
            admin.request("PUT", self._path, self._make(self._revision), {"Content-Type": "application/json"})
            answer = admin.getresponse()
            said = answer.read(300)
        finally:
            admin.close()
        if answer.status == 200:
            pushed.taken += 1
        else:
            pushed.refused.append(f"{answer.status} {said!r}")
