"""Server-sent events (HTML standard, section 9.2) that end when the reader is gone, slow, or no longer allowed."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from control_plane.watch import Entry

# How long a reader may leave what was written unread. Its queue is bounded too (control_plane/watch.py).
SEND_SECONDS: Final = 30.0
# Said once: how soon to come back when the stream breaks.
RETRY_MS: Final = 1_000
HEARTBEAT: Final = b": heartbeat\n\n"


class EventStream[Item](Response):
    """Writes what comes, as `write` does, a comment where nothing came. `until` is asked at each, and ends it."""

    media_type = "text/event-stream"

    def __init__(
        self,
        entries: AsyncGenerator[list[Item]],
        write: Callable[[Sequence[Item]], bytes],
        *,
        until: Callable[[], bool],
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._entries = entries
        self._encode = write
        self._until = until

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the end. What goes wrong before the first entry is the caller's to answer."""
        async with contextlib.aclosing(self._entries) as entries:
            first = await anext(entries, None)
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            with contextlib.suppress(TimeoutError):
                await self._write(send, b"retry: %d\n\n" % RETRY_MS + (self._encode(first or ()) or HEARTBEAT))
                await self._follow(entries, receive, send)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SEND_SECONDS):
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _follow(self, entries: AsyncGenerator[list[Item]], receive: Receive, send: Send) -> None:
        async def write_all() -> None:
            async for batch in entries:
                if self._until():
                    return
                await self._write(send, self._encode(batch) or HEARTBEAT)

        try:
            async with asyncio.TaskGroup() as group:
                writing = group.create_task(write_all(), name="watch stream")
                leaving = group.create_task(_disconnected(receive), name="watch reader gone")
                await asyncio.wait((writing, leaving), return_when=asyncio.FIRST_COMPLETED)
                writing.cancel()
                leaving.cancel()
        except* TimeoutError:
            pass

    async def _write(self, send: Send, data: bytes) -> None:
        async with asyncio.timeout(SEND_SECONDS):
            await send({"type": "http.response.body", "body": data, "more_body": True})


def encode(entries: Sequence[Entry]) -> bytes:
    """Write entries down. Their data is one line of JSON each."""
    return b"".join(
        b"id: %d\nevent: %s\ndata: %s\n\n" % (entry.id, entry.kind.encode("ascii"), entry.data) for entry in entries
    )


def encode_without_organizations(entries: Sequence[Entry]) -> bytes:
    """Write entries down for a reader that knows of no organizations in orders."""
    return encode([entry.without_organizations() for entry in entries])


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
