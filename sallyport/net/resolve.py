"""Names to addresses, on a few threads that one sandbox's slow names cannot take from the others."""

import asyncio
import errno
import socket
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from sallyport.net.dial_error import DialError, DialFault, fault_of
from sallyport.net.turns import Turns

type Lookup = Callable[[str], tuple[str, ...]]
type Answer = tuple[str, ...] | DialError

# A failed lookup is remembered only long enough to absorb a loop that retries without waiting.
_FAILURE_TTL_SECONDS: Final = 1.0
# Every address of an answer is kept, and checked at each dial. Whose name has thousands, as TCP lets an answer have,
# would hold the loop up for a tenth of a second each time; the largest honest answers have a dozen or two.
MAX_ADDRESSES: Final = 64
# Whose lookup it is where it is nobody's: the operator's own.
OPERATOR: Final = ""


def lookup_addresses(host: str) -> tuple[str, ...]:
    """Ask the system's resolver for every address of `host`, in its order; OSError when there is none. Blocks."""
    try:
        answers = socket.getaddrinfo(host.encode("ascii"), None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except OSError as error:
        # Mostly a gaierror; a module of the system's resolver may leave an errno of its own.
        _raise_if_exhausted(error)
        raise
    return tuple(dict.fromkeys(str(sockaddr[0]) for _, _, _, _, sockaddr in answers))


def _raise_if_exhausted(error: OSError) -> None:
    """Without a descriptor the system's resolver cannot ask, and says that the name is unknown or to be tried again."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()
    except OSError as cause:
        if cause.errno in (errno.EMFILE, errno.ENFILE):
            raise cause from error


class _Asked:
    """One name that is being looked up, or waits for it. waiters are those who still want the answer."""

    __slots__ = ("answer", "host", "is_running", "owners", "waiters")

    def __init__(self, host: str, answer: "asyncio.Future[Answer]") -> None:
        self.host = host
        self.answer = answer
        self.owners: set[str] = set()
        self.waiters = 0
        self.is_running = False


class Resolver:
    """Resolve names on threads of its own, one lookup per name at a time, answers kept for a few seconds.

    Its own threads, because the event loop's few are shared with everything else and one slow name server would stall
    all of it. Owners (sandboxes) take turns on them, and none has more than max_each. Always: a name is in `_pending`
    exactly while its lookup waits or runs; one that waits stands in the queue of each owner who asked for it.
    """

    def __init__(
        self,
        lookup: Lookup = lookup_addresses,
        *,
        ttl_seconds: float = 5.0,
        max_names: int = 4096,
        max_concurrent: int = 16,
        max_each: int = 4,
        now: Callable[[], float] | None = None,
    ) -> None:
        self._lookup = lookup
        self._ttl_seconds = ttl_seconds
        self._max_names = max_names
        self._now = now
        self._is_closed = False
        self._threads = ThreadPoolExecutor(max_concurrent, thread_name_prefix="resolve")
        self._turns: Turns[str, _Asked] = Turns(at_once=max_concurrent, each=max_each)
        self._pending: dict[str, _Asked] = {}
        # Oldest first, so that making room drops what expires soonest; a plain dict would look for the oldest among
        # those that are gone. A failure is kept as its DialError.
        self._known: OrderedDict[str, tuple[float, Answer]] = OrderedDict()

    async def resolve(self, host: str, timeout_seconds: float, owner: str = OPERATOR) -> tuple[str, ...]:
        """Give every address of `host` as numeric text, at least one; DialError UNRESOLVED, TIMEOUT or OVERLOADED.

        A lookup that runs outlives the callers that gave up on it, so that its answer serves the next one; one that has
        not begun ends with the last of them.
        """
        known = self._known.get(host)
        if known is not None and self._time() < known[0]:
            return _addresses_of(host, known[1])
        if self._is_closed:
            raise _closed(host)
        asked = self._pending.get(host)
        if asked is None:
            asked = self._pending[host] = _Asked(host, asyncio.get_running_loop().create_future())
        if not asked.is_running and owner not in asked.owners:
            # In each one's own queue: a name waits no longer because another sandbox, with many others, wants it too.
            asked.owners.add(owner)
            self._turns.enter(owner, asked)
            self._start_next()
        asked.waiters += 1
        try:
            async with asyncio.timeout(timeout_seconds):
                return _addresses_of(host, await asyncio.shield(asked.answer))
        except TimeoutError:
            raise DialError(DialFault.TIMEOUT, f"{host}: no answer from the resolver in {timeout_seconds} s") from None
        finally:
            asked.waiters -= 1
            if not asked.waiters and not asked.is_running and self._pending.get(host) is asked:
                del self._pending[host]  # its turn, once it comes, is nobody's

    def close(self) -> None:
        """Take no more lookups and fail those that have not started; does not wait for running ones."""
        self._is_closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        for asked in [each for each in self._pending.values() if not each.is_running]:
            self._settle(asked, _closed(asked.host))

    def _time(self) -> float:
        return self._now() if self._now is not None else asyncio.get_running_loop().time()

    def _start_next(self) -> None:
        """Begin what may begin."""
        while (turn := self._turns.take()) is not None:
            owner, asked = turn
            if asked.is_running or self._pending.get(asked.host) is not asked:
                self._turns.done(owner)  # another owner's turn came first
            elif not self._begin(owner, asked):
                self._turns.done(owner)

    def _begin(self, owner: str, asked: _Asked) -> bool:
        loop = asyncio.get_running_loop()
        try:
            lookup = asyncio.wrap_future(self._threads.submit(self._lookup, asked.host), loop=loop)
        except RuntimeError as error:  # no thread can be had
            self._settle(asked, DialError(DialFault.OVERLOADED, f"{asked.host}: {error}"))
            return False
        asked.is_running = True
        lookup.add_done_callback(lambda done: self._finish(owner, asked, done))
        return True

    def _finish(self, owner: str, asked: _Asked, lookup: asyncio.Future[tuple[str, ...]]) -> None:
        self._turns.done(owner)
        error = None if lookup.cancelled() else lookup.exception()
        if lookup.cancelled():
            answer: Answer = _closed(asked.host)
        elif error is not None:
            answer = DialError(fault_of(error, DialFault.UNRESOLVED), f"{asked.host}: {error}")
        elif (count := len(lookup.result())) > MAX_ADDRESSES:
            # As a whole: an address that is left out would be one that nobody has checked (H8).
            detail = f"{asked.host}: the answer has {count} addresses, more than {MAX_ADDRESSES}"
            answer = DialError(DialFault.UNRESOLVED, detail)
        else:
            answer = lookup.result()
        self._settle(asked, answer)
        self._start_next()

    def _settle(self, asked: _Asked, answer: Answer) -> None:
        del self._pending[asked.host]
        if not (isinstance(answer, DialError) and answer.kind is DialFault.OVERLOADED):  # says nothing of the name
            self._remember(asked.host, answer)
        if not asked.answer.done():
            asked.answer.set_result(answer)

    def _remember(self, host: str, answer: Answer) -> None:
        ttl_seconds = _FAILURE_TTL_SECONDS if isinstance(answer, DialError) else self._ttl_seconds
        now, known = self._time(), self._known
        known.pop(host, None)
        # A failure behind answers that still hold is dropped with them: nothing is kept for longer than an answer is.
        while known and (len(known) >= self._max_names or known[next(iter(known))][0] <= now):
            known.popitem(last=False)
        known[host] = (now + ttl_seconds, answer)

    def __repr__(self) -> str:
        return f"<Resolver: {len(self._known)} names known, {len(self._pending)} being looked up>"


def _closed(host: str) -> DialError:
    return DialError(DialFault.UNRESOLVED, f"{host}: the resolver was closed")


def _addresses_of(host: str, answer: Answer) -> tuple[str, ...]:
    if isinstance(answer, DialError):
        raise DialError(answer.kind, answer.detail)  # a new one: the kept one must not collect tracebacks
    if not answer:
        raise DialError(DialFault.UNRESOLVED, f"{host}: the resolver gave no address")
    return answer
