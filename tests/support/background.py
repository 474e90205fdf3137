"""An asynchronous fixture on a thread of its own, for tests whose own side is synchronous (subprocesses)."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager

_START_SECONDS = 20.0


@contextlib.contextmanager
def in_background[T](block: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """Enter an asynchronous block on a loop of its own thread; leave it when this block ends."""
    entered: Future[T] = Future()
    leaving: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def stay() -> None:
        leave = asyncio.Event()
        leaving.set_result((asyncio.get_running_loop(), leave))
        async with block as value:
            entered.set_result(value)
            await leave.wait()

    def run() -> None:
        try:
            asyncio.run(stay())
        except BaseException as error:
            if entered.done():
                raise
            entered.set_exception(error)

    thread = threading.Thread(target=run, name="background fixture")
    thread.start()
    try:
        yield entered.result(_START_SECONDS)
    finally:
        loop, leave = leaving.result(_START_SECONDS)
        with contextlib.suppress(RuntimeError):  # the loop is closed already where entering failed
            loop.call_soon_threadsafe(leave.set)
        thread.join()
