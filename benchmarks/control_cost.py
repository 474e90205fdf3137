"""What gateways cost the control plane: `python -m benchmarks.control_cost`. For docs/operations/sizing.md.

Processor time of one report, by how many sandboxes a gateway holds, in which nothing has changed, as most are; and of
one resolution of a stored credential. Without HTTP, which each request has around it.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, cast

from benchmarks.own import plan_document
from control_plane import sandboxes
from control_plane.config import load_config
from control_plane.connections import ConnectionDesk, Typed
from control_plane.definitions.contract import MethodKind
from control_plane.definitions.registry import Registry
from control_plane.foundation import Foundation, foundation
from control_plane.keeper import CredentialKeeper
from control_plane.leases import renew_lease
from control_plane.oauth.provider_session import ProviderSession
from control_plane.plans import PlanDesk
from control_plane.resolution import Resolver, Wanted
from control_plane.store.leases import Held
from sallyport.plan.codec import seal
from sallyport.secret import Secret

_HELD: Final = (10, 100, 1_000, 5_000)
_SANDBOX, _CONNECTION = "sbx_cost", "con_bench"
_NOW: Final = 1_800_000_000.0


async def _cost(ask: Callable[[], Awaitable[object]], times: int) -> str:
    """Say how many processor milliseconds one takes: median, lowest and highest."""
    took = []
    for _ in range(times):
        began = time.process_time()
        await ask()
        took.append((time.process_time() - began) * 1000)
    return f"{statistics.median(took):.1f} ms ({min(took):.1f} - {max(took):.1f})"


async def _reports(base: Foundation) -> None:
    for count in _HELD:
        held = {f"sbx_{number:06}": Held(True, 1, 1) for number in range(count)}
        revisions = dict.fromkeys(held, 1)

        async def report(held: dict[str, Held] = held, revisions: dict[str, int] = revisions) -> None:
            where = f"gw_{len(held)}"
            url = "http://127.0.0.1:9900"
            await renew_lease(
                base.database, where, epoch=1, admin_url=url, held=held, plan_revisions=revisions, now=_NOW
            )

        print(f"report of {count} sandboxes: first {await _cost(report, 1)}, unchanged {await _cost(report, 20)}")


async def _resolutions(base: Foundation) -> None:
    document = plan_document("api.test", _SANDBOX)
    organization = str(document["organizationId"])
    registry = Registry([])
    await sandboxes.create_sandbox(
        base.database, organization, sandbox_id=_SANDBOX, profile_id=None, version=None, now=_NOW
    )
    key = Typed("api_key", "", Secret(b"a-made-up-credential"), "/secrets/api_key", "/secrets/api_key")
    await ConnectionDesk(base.database, base.vault, registry).add(
        "hand-made", organization, MethodKind.API_KEY, [key], connection_id=_CONNECTION, for_operator=True, now=_NOW
    )
    await PlanDesk(base.database).put(_SANDBOX, seal(document), _NOW)
    nobody = cast(ProviderSession, None)  # the credential is stored: no provider is asked
    keeper = CredentialKeeper(base.database, base.vault, registry, nobody, lambda: _NOW, "replica")
    resolver = Resolver(base.database, base.vault, registry, keeper)
    wanted = Wanted(_SANDBOX, 1, "rule_0", "bnd_0", _CONNECTION, "api_key", None, None)
    print(f"resolution: {await _cost(lambda: resolver.resolve(wanted, 'gateway', _NOW), 200)}")


async def _measure(folder: Path, url: str | None) -> None:
    variables = {"SALLYPORT_DATA_DIR": str(folder / "data")} | ({"SALLYPORT_DATABASE_URL": url} if url else {})
    async with foundation(load_config(variables, folder), now=_NOW) as base:
        await _reports(base)
        await _resolutions(base)


def main() -> None:
    """Measure on a new SQLite database, or on the empty one that was named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database-url", metavar="URL", help="an empty database; a new SQLite file unless given")
    given = parser.parse_args().database_url
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_measure(Path(folder), given))


if __name__ == "__main__":
    main()
