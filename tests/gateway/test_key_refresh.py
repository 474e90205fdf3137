"""Keys of the control plane: at start, now and then, and when a token names one that is not known."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway import key_refresh
from gateway.key_refresh import KeyRefresh
from gateway.keys import KeyRing
from tests.support.control_stage import ControlStage, control_stage
from tests.support.fake_control import answer, refusal
from tests.support.signed_tokens import KEY, OTHER_KEY, jwk
from tests.support.until import until

JWKS = "/.well-known/jwks.json"


class Refreshed:
    """A key refresh, its ring and its clock."""

    def __init__(self, stage: ControlStage) -> None:
        self.stage = stage
        self.now = 0.0
        self.ring = KeyRing()
        self.refresh = KeyRefresh(stage.session, self.ring, stage.store, now=lambda: self.now)

    async def start(self) -> None:
        self.stage.tasks.spawn(self.refresh.run(), name="keys")
        await until(lambda: self.ring.current is not None)

    @property
    def asked(self) -> int:
        return self.stage.control.count(JWKS)


@pytest.fixture
async def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Refreshed]:
    monkeypatch.setattr("control_client.backoff.FIRST_SECONDS", 0.01)
    async with control_stage(tmp_path) as stage:
        yield Refreshed(stage)


async def test_keys_come_at_start_and_go_to_the_disk(keys: Refreshed) -> None:
    await keys.start()
    assert repr(keys.ring) == "<KeyRing <KeySet fake>>"
    await keys.stage.store.flush()
    kept = keys.stage.store.open().jwks
    assert kept is not None
    other = Refreshed(keys.stage)
    other.refresh.restore(kept)
    assert repr(other.ring) == repr(keys.ring)


async def test_an_unknown_key_is_asked_for_once_in_a_while(keys: Refreshed) -> None:
    await keys.start()
    keys.stage.control.keys = [jwk(KEY, kid="fake"), jwk(OTHER_KEY, kid="new")]
    keys.refresh.want()  # too soon after the first
    keys.now = key_refresh.UNKNOWN_KEY_SECONDS
    for _ in range(100):
        keys.refresh.want()
    await until(lambda: repr(keys.ring) == "<KeyRing <KeySet fake, new>>")
    for _ in range(100):
        keys.refresh.want()
    assert keys.asked == 2


async def test_they_are_asked_for_every_few_minutes(keys: Refreshed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_refresh, "REFRESH_SECONDS", 0.01)
    await keys.start()
    keys.stage.control.keys = [jwk(OTHER_KEY, kid="new")]
    await until(lambda: repr(keys.ring) == "<KeyRing <KeySet new>>")


@pytest.mark.parametrize("wrong", [b"", b"{}", b'{"keys": []}', b'{"keys": [{"kty": "oct", "k": "AAAA"}]}'])
async def test_a_set_that_cannot_be_used_changes_nothing(
    keys: Refreshed, monkeypatch: pytest.MonkeyPatch, wrong: bytes
) -> None:
    monkeypatch.setattr(key_refresh, "REFRESH_SECONDS", 0.01)
    await keys.start()
    before = keys.ring.current
    keys.stage.control.misbehave(JWKS, answer(200, wrong), refusal(503, "database_unavailable"))
    await until(lambda: keys.asked >= 4)
    assert keys.ring.current is before


async def test_an_unchanged_set_is_not_read_again(keys: Refreshed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_refresh, "REFRESH_SECONDS", 0.01)
    await keys.start()
    before = keys.ring.current
    await until(lambda: keys.asked >= 3)
    assert keys.ring.current is before  # the same object: nothing that was verified is verified again


async def test_a_control_plane_that_is_away_is_asked_again(keys: Refreshed) -> None:
    keys.stage.control.misbehave(JWKS, *[refusal(503, "database_unavailable")] * 3)
    await keys.start()
    assert keys.asked == 4
