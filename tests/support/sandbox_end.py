"""What answers in a sandbox when the gateway opens a stream into it: a sandboxd played by a test."""

import asyncio

from tests.support.raw_end import WAIT_SECONDS, RawEnd
from tests.support.tunnel_client import TunnelClient

ADMITTED = b"HTTP/1.1 200 OK\r\n\r\n"


class SandboxEnd:
    """Takes the streams that are opened into a sandbox, one by one, with the target each asked for."""

    def __init__(self, client: TunnelClient) -> None:
        self._waiting: asyncio.Queue[RawEnd] = asyncio.Queue()
        client.accepts = self._waiting.put_nowait

    async def opened(
        self, answer: bytes = ADMITTED, patience_seconds: float | None = WAIT_SECONDS
    ) -> tuple[str, RawEnd]:
        """Take the next stream, answer its CONNECT, and return its target."""
        async with asyncio.timeout(patience_seconds):
            end = await self._waiting.get()
        head = await end.head()
        method, target, version = head.partition(b"\r\n")[0].split(b" ")
        assert (method, version) == (b"CONNECT", b"HTTP/1.1"), head
        end.send(answer)
        return target.decode(), end
