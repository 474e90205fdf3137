"""A control plane that kills itself at one step of a webhook's way, or of a push's.

`python -m tests.support.killed_plane STEP HIT`. Everything else is as `sallyport control-plane serve` has it, by
variables; leases and looks are short, because who comes after it waits for them. `none` is no step.
"""

import functools
import inspect
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from control_plane.app import run_control_plane
from control_plane.config import load_config, process_environment
from control_plane.push import emitter
from control_plane.store import push, webhook_deliveries
from control_plane.store.database import Transaction
from control_plane.store.models import WebhookEvent
from control_plane.webhooks import outbox
from control_plane.webhooks.ingest import Ingest
from control_plane.webhooks.outbox import Outbox

type Test = Callable[[tuple[Any, ...]], bool]


class Step(NamedTuple):
    """A function of the product, and whether the end comes before or after it."""

    owner: Any
    name: str
    is_after: bool = False
    # Which calls count, by their arguments.
    counts: Test = lambda arguments: True


_made_out: list[object] = []


def _is_event(arguments: tuple[Any, ...]) -> bool:
    return isinstance(arguments[1], WebhookEvent)


STEPS = {
    "before the event is written": Step(Ingest, "_write"),
    "before the event is committed": Step(Transaction, "add", is_after=True, counts=_is_event),
    "before it is answered": Step(Ingest, "_write", is_after=True),
    "before its deliveries are committed": Step(webhook_deliveries, "make_out", is_after=True),
    "before a delivery is claimed": Step(Outbox, "_claim", counts=lambda arguments: bool(_made_out)),
    "before the claim is committed": Step(webhook_deliveries, "claim", is_after=True),
    "before the subscriber is told": Step(outbox, "attempt"),
    "before the result is written": Step(outbox, "attempt", is_after=True),
    "before the result is committed": Step(outbox, "note", is_after=True),
    "after all of it": Step(Outbox, "_write", is_after=True),
}


PUSH_STEPS = {
    "before a subscriber is claimed": Step(push, "claim"),
    "before its claim is committed": Step(push, "claim", is_after=True),
    "before a push is sent": Step(emitter, "attempt"),
    "before its result is written": Step(emitter, "attempt", is_after=True),
    "before its result is committed": Step(push, "put_cursor", is_after=True),
    "before it is let go": Step(push, "let_go"),
}


def arm(step: Step, hit: int) -> None:
    """Put the end in its place: the process dies at the hit-th call that counts."""
    real: Callable[..., Any] = getattr(step.owner, step.name)
    left = hit

    def strike(arguments: tuple[Any, ...], is_after: bool) -> None:
        nonlocal left
        if is_after is step.is_after and step.counts(arguments):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    @functools.wraps(real)
    async def asked(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401  whatever it is
        strike(arguments, is_after=False)
        result = await real(*arguments, **named)
        strike(arguments, is_after=True)
        return result

    @functools.wraps(real)
    def called(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401  whatever it is
        strike(arguments, is_after=False)
        result = real(*arguments, **named)
        strike(arguments, is_after=True)
        return result

    setattr(step.owner, step.name, asked if inspect.iscoroutinefunction(real) else called)


def main(step: str, hit: str) -> int:
    """Serve until the end."""
    # It ends with a whole second: a shorter one may be over while a subscriber is told, who is then told once more.
    outbox.LEASE_SECONDS = 1.0  # type: ignore[misc]  # Final for everyone else
    emitter.LEASE_SECONDS = 0.2  # type: ignore[misc]  # likewise
    outbox.LOOK_SECONDS = emitter.LOOK_SECONDS = 0.05  # type: ignore[misc]  # likewise
    real = webhook_deliveries.make_out

    async def make_out(*arguments: Any) -> None:  # noqa: ANN401  as the real one
        await real(*arguments)
        _made_out.append(arguments)

    webhook_deliveries.make_out = make_out  # type: ignore[assignment]  # with any arguments it takes those too
    if step != "none":
        arm((STEPS | PUSH_STEPS)[step], int(hit))
    return run_control_plane(load_config(process_environment(), Path.cwd()))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
