"""Sealing, what a ciphertext is bound to, and rotation of master keys."""

import asyncio
from pathlib import Path

import pytest

from control_plane.foundation import Foundation
from control_plane.store.models import DataKey
from control_plane.vault.envelope import Place, Vault, VaultError
from control_plane.vault.master_keys import KeyCommand, add_master_key, make_master_keys
from sallyport.secret import Secret

PLACE = Place("org_one", "credentials", ("con_one", "api_key", ""), "value")
SECRET = Secret(b"canary-secret")


@pytest.fixture
def key_file(base: Foundation, tmp_path: Path) -> Path:
    return tmp_path / "data" / "master.keys"


async def seal(base: Foundation, vault: Vault, place: Place = PLACE, secret: Secret = SECRET) -> bytes:
    async with base.database.write() as tx:
        return await vault.seal(tx, place, secret)


async def opened(base: Foundation, vault: Vault, sealed: bytes, place: Place = PLACE) -> Secret:
    async with base.database.read() as tx:
        return await vault.open(tx, place, sealed)


async def test_what_is_sealed_opens_in_every_replica(base: Foundation, key_file: Path) -> None:
    sealed = await seal(base, base.vault)
    assert b"canary" not in sealed
    assert await opened(base, base.vault, sealed) == SECRET
    assert await opened(base, Vault(key_file), sealed) == SECRET
    assert await seal(base, base.vault) != sealed  # a nonce of its own each time


@pytest.mark.parametrize(
    "place",
    [
        PLACE._replace(organization_id="org_two"),
        PLACE._replace(table="other"),
        PLACE._replace(row=("con_two", "api_key", "")),
        PLACE._replace(row=("con_one", "api_key")),
        PLACE._replace(row=("con_one", "api_ke", "y")),
        PLACE._replace(column="other"),
    ],
)
async def test_a_ciphertext_that_was_moved_does_not_open(base: Foundation, place: Place) -> None:
    # Both organizations have a data key of the same version, so that the place alone can tell.
    await seal(base, base.vault, PLACE._replace(organization_id="org_two"))
    sealed = await seal(base, base.vault)
    with pytest.raises(VaultError):
        await opened(base, base.vault, sealed, place)


async def test_a_ciphertext_that_was_changed_does_not_open(base: Foundation) -> None:
    sealed = await seal(base, base.vault)
    for index in range(len(sealed)):
        changed = sealed[:index] + bytes([sealed[index] ^ 1]) + sealed[index + 1 :]
        with pytest.raises(VaultError):
            await opened(base, base.vault, changed)
    for length in range(len(sealed)):
        with pytest.raises(VaultError):
            await opened(base, base.vault, sealed[:length])


async def test_replicas_that_seal_first_at_the_same_time_agree(base: Foundation, key_file: Path) -> None:
    vaults = [Vault(key_file) for _ in range(4)]
    async with asyncio.TaskGroup() as group:
        sealed = [group.create_task(seal(base, vault)) for vault in vaults]
    for each in sealed:
        assert await opened(base, base.vault, each.result()) == SECRET


async def test_a_data_key_of_a_transaction_that_failed_is_forgotten(base: Foundation) -> None:
    async def fail() -> None:
        async with base.database.write() as tx:
            await base.vault.seal(tx, PLACE, SECRET)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await opened(base, base.vault, await seal(base, base.vault)) == SECRET


async def test_rotation_wraps_anew_without_downtime(base: Foundation, key_file: Path, tmp_path: Path) -> None:
    sealed = await seal(base, base.vault)
    running = Vault(key_file)  # another replica, with the file of before in memory
    add_master_key(key_file)
    assert await base.vault.rewrap(base.database) == 2  # this organization's and the control plane's own
    assert await base.vault.rewrap(base.database) == 0
    async with base.database.read() as tx:
        row = await tx.get(DataKey, ("org_one", 1))
    assert row is not None
    assert row.master_version == 2
    assert await opened(base, running, sealed) == SECRET
    newer = await seal(base, running, PLACE._replace(organization_id="org_two"))
    assert await opened(base, base.vault, newer, PLACE._replace(organization_id="org_two")) == SECRET


async def test_other_master_keys_open_nothing(base: Foundation, tmp_path: Path) -> None:
    sealed = await seal(base, base.vault)
    make_master_keys(tmp_path / "other.keys")
    with pytest.raises(VaultError, match="is not the one in use"):
        await opened(base, Vault(tmp_path / "other.keys"), sealed)
    add_master_key(tmp_path / "data" / "master.keys")
    await base.vault.rewrap(base.database)
    with pytest.raises(VaultError, match="lacks master key 2"):
        await opened(base, Vault(tmp_path / "other.keys"), sealed)


async def test_no_secret_in_a_repr(base: Foundation) -> None:
    await seal(base, base.vault)
    assert repr(base.vault) == "<Vault <MasterKeys 1>, 0 data keys in memory>"


async def test_a_fingerprint_tells_contents_and_places_apart(base: Foundation, key_file: Path) -> None:
    async def of(vault: Vault, place: Place = PLACE, content: bytes = b"canary") -> str:
        async with base.database.write() as tx:
            return await vault.fingerprint(tx, place, content)

    found = await of(base.vault)
    assert await of(Vault(key_file)) == found
    assert len({found, await of(base.vault, content=b"other"), await of(base.vault, PLACE._replace(row=("x",)))}) == 3
    add_master_key(key_file)
    await base.vault.rewrap(base.database)
    assert await of(base.vault) == found


async def test_a_command_s_keys_rotate_under_a_running_replica(base: Foundation, key_file: Path) -> None:
    running = Vault(KeyCommand(f"cat {key_file}", 30.0))
    sealed = await seal(base, running)
    add_master_key(key_file)
    other = Vault(KeyCommand(f"cat {key_file}", 30.0))
    assert await other.rewrap(base.database) > 0
    assert await opened(base, running, sealed) == SECRET  # it asks again for the version it lacks
