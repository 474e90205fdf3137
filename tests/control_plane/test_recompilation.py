"""What is asked for follows from what changed."""

from collections.abc import Sequence

import pytest
from sqlalchemy import select

from control_plane import recompilation
from control_plane.app import Foundation
from control_plane.store.models import Binding, Connection, Profile, ProfileVersion, Recompilation
from tests.support.control_plane import NOW

AT = int(NOW)


async def bind(base: Foundation, *bindings: tuple[int, str]) -> None:
    """Make two versions of a profile, connections con_1 and con_2 of targets tgt_1 and tgt_2, and these bindings."""
    async with base.database.write() as tx:
        await tx.add(Profile(id="sbp_1", organization_id="org_one", created_at=AT))
        await tx.add_all([ProfileVersion(profile_id="sbp_1", version=number, created_at=AT) for number in (1, 2)])
        await tx.add_all(
            [
                Connection(
                    id=f"con_{number}",
                    organization_id="org_one",
                    target_key=f"tgt_{number}",
                    status="active",
                    created_at=AT,
                    updated_at=AT,
                )
                for number in (1, 2)
            ]
        )
        await tx.add_all(
            [
                Binding(
                    id=f"bnd_{position}",
                    profile_id="sbp_1",
                    version=version,
                    position=position,
                    connection_id=connection_id,
                    kind="connector",
                    config="{}",
                    created_at=AT,
                    updated_at=AT,
                )
                for position, (version, connection_id) in enumerate(bindings)
            ]
        )


async def asked(base: Foundation) -> Sequence[tuple[int, int]]:
    async with base.database.read() as tx:
        found = await tx.all(select(Recompilation).order_by(Recompilation.version))
    return [(each.version, each.requests) for each in found]


@pytest.mark.parametrize(
    ("changed", "versions"),
    [
        ({"version": ("sbp_1", 2)}, [(2, 1)]),
        ({"connection_id": "con_1"}, [(1, 1), (2, 1)]),
        ({"connection_id": "con_2"}, [(2, 1)]),
        ({"target_key": "tgt_2"}, [(2, 1)]),
        ({"target_key": "tgt_1", "version": ("sbp_1", 1)}, [(1, 1), (2, 1)]),
        ({"connection_id": "con_none"}, []),
        ({}, []),
    ],
)
async def test_what_changed_says_what_is_compiled_anew(
    base: Foundation, changed: dict[str, object], versions: list[tuple[int, int]]
) -> None:
    await bind(base, (1, "con_1"), (2, "con_1"), (2, "con_1"), (2, "con_2"))
    async with base.database.write() as tx:
        await recompilation.request(tx, NOW, **changed)  # type: ignore[arg-type]  # parametrized
    assert await asked(base) == versions
