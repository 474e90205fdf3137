"""When to try the gateway again, and with which token, after an attempt failed or a tunnel ended."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sallyport.wire.websocket import EXPIRED, REPLACED, REVOKED

# Contracts section 2. The first try is at once: most tunnels end because one gateway of several goes away.
STEPS_SECONDS: Final = (0.0, 0.25, 0.5, 1.0, 2.0, 5.0)
# While a program waits for a tunnel: a gateway that restarts takes about a second, and a refused attempt costs little.
ASKED_SECONDS: Final = 1.0
# A newer tunnel of this sandbox is at work; it is not fought for the sandbox.
REPLACED_SECONDS: Final = 30.0
# No token is good. It may have been refused because the gateway does not know its key yet, so it is tried again.
REFUSED_SECONDS: Final = 30.0
# A tunnel that lived this long was a good one: what ends it is news, and is answered by a try at once.
SETTLED_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """Try again after `wait_seconds`; with `may_hasten`, sooner where a program waits for the tunnel (`hastened`).

    `is_token_bad`: the token that was shown is not shown again. `is_stopped`: no token is, until somebody brings
    another.
    """

    wait_seconds: float
    may_hasten: bool = False
    is_token_bad: bool = False
    is_stopped: bool = False


def delay(attempt: int, random: Callable[[], float]) -> float:
    """Return the wait before an attempt, the first being 0: a step with full jitter, so that a fleet spreads out."""
    step = STEPS_SECONDS[min(attempt, len(STEPS_SECONDS) - 1)]
    return step * random()


def after_failure(attempt: int, random: Callable[[], float]) -> Again:
    """Say what follows an attempt that reached nobody."""
    return Again(wait_seconds=delay(attempt, random), may_hasten=True)


def hastened(wait_seconds: float, random: Callable[[], float]) -> float:
    """Return what is left of a wait from the moment a program waits as well; with full jitter, as every step."""
    return min(wait_seconds, ASKED_SECONDS * random())


def after_close(code: int | None, attempt: int, random: Callable[[], float]) -> Again:
    """Say what follows the end of a tunnel; code is its WebSocket close code, None where it was cut.

    4001 (draining) and everything unnamed is a try at once when the tunnel had settled (attempt 0), and backs off
    where tunnels end as soon as they begin.
    """
    if code == REPLACED:
        return Again(wait_seconds=REPLACED_SECONDS)
    if code == REVOKED:
        return Again(wait_seconds=REFUSED_SECONDS, is_token_bad=True, is_stopped=True)
    return Again(wait_seconds=delay(attempt, random), may_hasten=True, is_token_bad=code == EXPIRED)


def after_refusal(status: int, has_another: bool, attempt: int, random: Callable[[], float]) -> Again:
    """Say what follows an upgrade that was answered by something else than 101; another token may be at hand."""
    if status != 401:
        return Again(wait_seconds=delay(attempt, random))
    if has_another:
        return Again(wait_seconds=delay(attempt, random), is_token_bad=True)
    return Again(wait_seconds=REFUSED_SECONDS)
