"""Run one program to its end, as a step: with a time, a log, and no process left behind."""

import asyncio
import signal
from collections.abc import Mapping, Sequence
from typing import Final

from sallyport.net.child import Child, ChildError, end_group, start_child
from sallyport.net.tasks import TaskSet
from sandboxd.setup.process_log import ProcessLog
from sandboxd.setup.steps import StepFailed

# Between asking a program that ran too long to end and killing it.
_END_SECONDS: Final = 2.0


async def run_program(
    tasks: TaskSet,
    args: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: str | None,
    timeout_seconds: float,
    log: ProcessLog,
) -> None:
    """Run a program; raises StepFailed unless it exits with 0 in time. Its whole group ends with this call."""
    log.note(f"runs {args[0]}")
    try:
        child = await start_child(tasks, lambda: Child(log.write), args, env=env, cwd=cwd)
    except ChildError as error:
        raise StepFailed(str(error)) from None
    try:
        async with asyncio.timeout(timeout_seconds):
            code = await asyncio.shield(child.exited)
    except TimeoutError:
        await end_group(child, first=signal.SIGTERM, timeout_seconds=_END_SECONDS, grace_seconds=0)
        raise StepFailed(f"{args[0]} did not end within {timeout_seconds:g} s") from None
    except asyncio.CancelledError:
        # A newer revision: what it will do must not meet what this was doing, so there is no time to ask.
        child.abandon()
        raise
    await child.finish()
    if code != 0:
        how = f"exited with code {code}" if code > 0 else f"was ended by signal {-code}"
        line = log.last_line()
        raise StepFailed(f"{args[0]} {how}" + (f": {line}" if line else ""))
