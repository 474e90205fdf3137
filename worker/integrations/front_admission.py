"""Who may call what at the front: as a file of keys says, or as the control plane does, asked again and again.

What the control plane said is believed for FRESH_SECONDS, so a key that was revoked is refused from then on. While it
cannot be asked, what it said last goes on for a while: nobody can revoke anything then.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, Protocol

import structlog

from control_client.admissions import Admission, SandboxPlace
from control_client.errors import TOKEN_UNREADABLE, ControlError
from sallyport.net.tasks import TaskSet
from worker.integrations.front_keys import KEY_PATTERN, Caller, FrontKeys

FRESH_SECONDS: Final = 1.0
# What was said that is remembered: a key and a name each, some 500 bytes. Those asked longest ago go first.
MAX_REMEMBERED: Final = 10_000
# Questions at once; more wait. A flood of made-up keys is a queue here and no flood there.
MAX_ASKED: Final = 16
MAX_NAME: Final = 256
# A name that nobody has, to ask about a key alone.
NO_NAME: Final = "-"

_log = structlog.get_logger(__name__)


class CannotAsk(Exception):
    """Nobody can say now who the caller is."""


class Admitted(NamedTuple):
    """A caller, and what they call; server_id is None where nothing of that name is there for them.

    sandbox: where it is, of a server in a sandbox.
    """

    caller: Caller
    server_id: str | None
    sandbox: SandboxPlace | None = None


class FrontAdmission(Protocol):
    """What decides on calls."""

    async def admit(self, key: str, name: str) -> Admitted | None:
        """Decide on one; None where the key opens nothing. Raises CannotAsk."""


class FileAdmission:
    """By keys of a file: every server of this worker by its id."""

    def __init__(self, keys: FrontKeys) -> None:
        self._keys = keys

    async def admit(self, key: str, name: str) -> Admitted | None:
        """Decide on a call; whether the server is there, and of the caller's tier, the front sees itself."""
        caller = self._keys.find(key)
        return None if caller is None else Admitted(caller, name)

    def __repr__(self) -> str:
        return f"<FileAdmission {self._keys!r}>"


class _Said(NamedTuple):
    """What was said of a key and a name, and when."""

    admission: Admission | None
    at: float


class ControlAdmission:
    """By the keys and servers of the control plane. ask(key_hash, name) asks it; clock does not jump."""

    def __init__(
        self,
        ask: Callable[[str, str], Awaitable[Admission | None]],
        clock: Callable[[], float],
        tasks: TaskSet,
        *,
        stale_seconds: float,
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._tasks = tasks
        self._stale_seconds = stale_seconds
        self._said: OrderedDict[tuple[str, str], _Said] = OrderedDict()
        self._asking: dict[tuple[str, str], asyncio.Task[_Said | ControlError]] = {}
        self._turns = asyncio.Semaphore(MAX_ASKED)

    async def admit(self, key: str, name: str) -> Admitted | None:
        """Decide on a call. Raises CannotAsk."""
        if KEY_PATTERN.fullmatch(key) is None:
            return None
        asked = name if 0 < len(name) <= MAX_NAME and name.isprintable() else NO_NAME
        admission = await self._admission((hashlib.sha256(key.encode("ascii")).hexdigest(), asked))
        if admission is None:
            return None
        caller = Caller(name=admission.key_id, tier=admission.tier.value)
        server = admission.server
        return Admitted(caller, None) if server is None else Admitted(caller, server.server_id, server.sandbox)

    async def _admission(self, call: tuple[str, str]) -> Admission | None:
        said = self._said.get(call)
        if said is not None and self._clock() < said.at + FRESH_SECONDS:
            return said.admission
        asking = self._asking.get(call)
        if asking is None:
            # All who ask the same at once wait for one answer, and none of them ends it by going away.
            asking = self._asking[call] = self._tasks.spawn(self._ask_for(call), name="admission")
            asking.add_done_callback(lambda _: self._asking.pop(call, None))
        answer = await asyncio.shield(asking)
        if isinstance(answer, _Said):
            return answer.admission
        if said is not None and answer.temporary and self._clock() < said.at + self._stale_seconds:
            return said.admission
        if answer.code == TOKEN_UNREADABLE:
            return None  # no control plane was named to this worker, so no key is of one
        _log.warning("front_cannot_ask", detail=str(answer))
        raise CannotAsk

    async def _ask_for(self, call: tuple[str, str]) -> _Said | ControlError:
        async with self._turns:
            at = self._clock()
            try:
                said = self._said[call] = _Said(await self._ask(*call), at)
            except ControlError as error:
                return error
        self._said.move_to_end(call)
        while len(self._said) > MAX_REMEMBERED:
            self._said.popitem(last=False)
        return said

    def __repr__(self) -> str:
        return f"<ControlAdmission: {len(self._said)} remembered>"


class EitherAdmission:
    """By the file's keys, and by the control plane's where the file does not know one."""

    def __init__(self, file: FrontAdmission, control: FrontAdmission) -> None:
        self._file = file
        self._control = control

    async def admit(self, key: str, name: str) -> Admitted | None:
        """Decide on a call. Raises CannotAsk."""
        return await self._file.admit(key, name) or await self._control.admit(key, name)

    def __repr__(self) -> str:
        return f"<EitherAdmission {self._file!r} {self._control!r}>"
