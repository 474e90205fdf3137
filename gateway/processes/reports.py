"""What a serving process tells its parent: who it holds, what it lacks, whom it denied something. Lines of JSON.

Always: what was told and what is true are compared, so nothing is queued, and whatever happened in between is one line.
Denials are taken from those that are kept anyway.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from itertools import batched
from typing import Final

from gateway.denials import Denial
from gateway.parts import GatewayParts

# A tunnel is told at once; which sandboxes have streams matters to leases, which are reported every ten seconds.
LOOK_SECONDS: Final = 1.0
# Ids are at most 256 characters, so a line stays below what the parent takes.
IDS_PER_LINE: Final = 500
MAX_LINE_BYTES: Final = 1024 * 1024
# Denials of one look; of more, the newest. Each is at most some KiB (gateway/denials.py).
MOST_DENIALS: Final = 500
DENIALS_PER_LINE: Final = 100


class Reports:
    """The news of one serving process, for one reader. Used from the event loop only."""

    def __init__(self) -> None:
        self._news = asyncio.Event()
        self._wanted_plans: set[str] = set()
        self._wants_keys = False
        self._is_closed = False

    def changed(self) -> None:
        """A tunnel has come or gone."""
        self._news.set()

    def want_plan(self, sandbox_id: str) -> None:
        """A sandbox has no plan here, and somebody waits for it."""
        self._wanted_plans.add(sandbox_id)
        self._news.set()

    def want_keys(self) -> None:
        """A token names a key that is not known."""
        self._wants_keys = True
        self._news.set()

    async def lines(self, parts: GatewayParts) -> AsyncGenerator[bytes]:
        """Yield lines until whoever reads has gone; the first are what is held now. An empty one says: still here."""
        tunnels: dict[str, int] = {}
        streams: set[str] = set()
        denials = ""  # the cursor of those that were told
        while not self._is_closed:
            self._news.clear()
            now, held = dict(parts.tunnels.sandboxes()), set(parts.streams.sandboxes())
            documents = [*self._wants(), *_tunnel_changes(tunnels, now), *_stream_changes(streams, held)]
            tunnels, streams = now, held
            lines = b"".join(json.dumps(document).encode("ascii") + b"\n" for document in documents)
            lines += _denials(parts.denials.after(denials, most=MOST_DENIALS))
            denials = parts.denials.cursor()
            yield lines or b"\n"
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._news.wait()
            except TimeoutError:
                pass

    def close(self) -> None:
        """End what is being read; for the end of the process."""
        self._is_closed = True
        self._news.set()

    def _wants(self) -> Iterator[Mapping[str, object]]:
        wanted, self._wanted_plans = self._wanted_plans, set()
        yield from ({"wantPlan": sandbox_id} for sandbox_id in wanted)
        if self._wants_keys:
            self._wants_keys = False
            yield {"wantKeys": True}

    def __repr__(self) -> str:
        return f"<Reports: {len(self._wanted_plans)} plans wanted>"


def _denials(found: Sequence[Denial]) -> bytes:
    lines = (b",".join(denial.document for denial in batch) for batch in batched(found, DENIALS_PER_LINE, strict=False))
    return b"".join(b'{"denials":[%b]}\n' % line for line in lines)


def _tunnel_changes(before: dict[str, int], now: dict[str, int]) -> Iterator[Mapping[str, object]]:
    for sandbox_id in before.keys() - now.keys():
        yield {"tunnel": sandbox_id, "epoch": None}
    for sandbox_id, epoch in now.items():
        if before.get(sandbox_id) != epoch:
            yield {"tunnel": sandbox_id, "epoch": epoch}


def _stream_changes(before: set[str], now: set[str]) -> Iterator[Mapping[str, object]]:
    for ids in batched(sorted(now - before), IDS_PER_LINE, strict=False):
        yield {"held": list(ids)}
    for ids in batched(sorted(before - now), IDS_PER_LINE, strict=False):
        yield {"released": list(ids)}
