"""The plain request after each hostile input (T6): that it succeeds, and within a second."""

import os
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

import pytest

from tests.support.figures import InTime, RecordProperty, waited_for_a_core

# How the tests of it are counted.
AFTERWARDS = pytest.mark.counted("plain requests after a vector", "deaths")
MOST_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Afterwards[T]:
    """What a plain request was answered, or why there is nothing, and how long that took.

    seconds_without_a_core are those of them in which the gateway, or the test that asks it, could have run and another
    program did: the gateway has a second from when it could answer.
    """

    answer: T | None
    fault: Exception | None
    seconds: float
    seconds_without_a_core: float


async def ask_afterwards[T](ask: Callable[[], Awaitable[T]], gateway_pid: int) -> Afterwards[T]:
    """Ask once, and keep whatever comes of it: the vector to blame is named by the test."""
    pids = (os.getpid(), gateway_pid)
    begun_at, waited = time.perf_counter(), _waited(pids)
    answer: T | None = None
    fault: Exception | None = None
    try:
        answer = await ask()
    except Exception as error:
        fault = error
    seconds = time.perf_counter() - begun_at
    return Afterwards(answer=answer, fault=fault, seconds=seconds, seconds_without_a_core=_waited(pids) - waited)


def check_time[T](asked: Collection[Afterwards[T]], record_property: RecordProperty, in_time: InTime) -> None:
    """Note how long the longest took, and under `--full` hold each to its second."""
    record_property("longest", ["plain request after a vector", max(each.seconds for each in asked)])
    longest = max(each.seconds - each.seconds_without_a_core for each in asked)
    in_time("longest plain request after a vector, less what it waited for a core", longest, MOST_SECONDS)


def _waited(pids: tuple[int, ...]) -> float:
    return sum(map(waited_for_a_core, pids))
