"""A whole worker in this process; one at a time, as DBOS is one per process."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

import httpx

from worker.app import Worker
from worker.config import WorkerConfig


class Working:
    """A worker that runs, and where it listens."""

    def __init__(self, stop: asyncio.Event) -> None:
        self.api = ""
        self.front = ""
        self._stop = stop
        self.running: asyncio.Task[None] | None = None

    async def ended(self) -> None:
        """Have it end, and wait for that."""
        self._stop.set()
        assert self.running is not None
        await asyncio.wait({self.running})


@contextlib.asynccontextmanager
async def working_worker(
    config: WorkerConfig, trust: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[httpx.AsyncClient, Working]]:
    """Run a worker until the block ends; yield a client of its API, and the rest."""
    worker, stop = Worker(config), asyncio.Event()
    loop = asyncio.get_running_loop()
    api: asyncio.Future[str] = loop.create_future()
    front: asyncio.Future[str] = loop.create_future()
    worker.on_ready = lambda host, port: api.set_result(f"{'http' if trust is None else 'https'}://{host}:{port}")
    worker.on_front_ready = lambda host, port: front.set_result(f"http://{host}:{port}")
    working = Working(stop)
    async with asyncio.TaskGroup() as group:
        working.running = group.create_task(worker.run(stop))
        working.api = await api
        if config.front.listen is not None:
            working.front = await front
        verify = True if trust is None else trust
        async with httpx.AsyncClient(base_url=working.api, verify=verify, trust_env=False, timeout=30) as client:
            yield client, working
        stop.set()
