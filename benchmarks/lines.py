"""Standard input as a stream, for the helper programs that are told by lines what to do."""

import asyncio
import sys

# A command holds a whole request; the longest (POST 10 KB) stays far below this.
_LINE_LIMIT_BYTES = 1 << 20


async def open_stdin() -> asyncio.StreamReader:
    """Return standard input; its end means that whoever started this program has gone."""
    reader = asyncio.StreamReader(limit=_LINE_LIMIT_BYTES)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader
