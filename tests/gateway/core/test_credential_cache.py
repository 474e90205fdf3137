"""When a credential is served, asked for again, refused and forgotten: every rule of time with time as an argument."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.core.credential_cache import (
    PERMANENT_REFUSAL_SECONDS,
    REREAD_SECONDS,
    Credential,
    CredentialCache,
    CredentialKey,
    Invalidated,
    ResolveRequest,
    RevocationsFull,
    refresh_at,
)
from sallyport.secret import Secret

NOW = 1_800_000_000.0


def key(number: int = 1, **fields: str) -> CredentialKey:
    base = CredentialKey("org_1", "sbx_1", "bnd_1", f"con_{number}", "api_key", None, None)
    return base._replace(**fields)


def request(of: CredentialKey) -> ResolveRequest:
    return ResolveRequest(of, 3, "route_1")


def credential(version: str = "v1", expires_at: float | None = None) -> Credential:
    return Credential(Secret(f"canary-{version}".encode()), expires_at, version)


def store(cache: CredentialCache, of: CredentialKey, value: Credential, now: float = NOW) -> bool:
    return cache.finish(cache.begin(of), request(of), value, now)


def refuse(cache: CredentialCache, of: CredentialKey, code: str, *, temporary: bool, after: float = 0) -> float:
    ticket = cache.begin(of)
    return cache.fail(ticket, code=code, temporary=temporary, retry_after_seconds=after, now=NOW).until


def test_a_value_is_served_until_it_expires_and_never_after() -> None:
    cache = CredentialCache(16)
    assert store(cache, key(), credential(expires_at=NOW + 100))
    assert cache.usable(key(), NOW + 99.9) is not None
    assert cache.usable(key(), NOW + 100) is None
    assert cache.entries == {}


def test_c10_a_value_that_is_dead_already_is_not_kept() -> None:
    cache = CredentialCache(16)
    assert not store(cache, key(), credential(expires_at=NOW))
    assert cache.usable(key(), NOW) is None


@pytest.mark.parametrize(
    ("expires_in", "asked_in"),
    [(3600, 2880), (300, 240), (100, 50), (10, 5), (None, REREAD_SECONDS)],
    ids=["80 % of an hour", "80 % is 60 s", "half of a short life", "half of a very short one", "no end known"],
)
def test_when_it_is_asked_for_again(expires_in: float | None, asked_in: float) -> None:
    value = credential(expires_at=None if expires_in is None else NOW + expires_in)
    assert refresh_at(value, NOW) - NOW == pytest.approx(asked_in)


@given(st.floats(min_value=0.001, max_value=1e7))
def test_asking_again_lies_within_the_life(life: float) -> None:
    at = refresh_at(credential(expires_at=NOW + life), NOW)
    assert NOW <= at < NOW + life


def test_c8_keys_are_tuples() -> None:
    cache = CredentialCache(16)
    one, two = key(connection_id="a:b", secret_type="c"), key(connection_id="a", secret_type="b:c")
    store(cache, one, credential())
    assert cache.usable(two, NOW) is None


def test_an_unchanged_value_stays_the_same_object() -> None:
    cache = CredentialCache(16)
    first = credential()
    store(cache, key(), first)
    store(cache, key(), credential(), NOW + 60)
    assert cache.usable(key(), NOW + 60) is first
    store(cache, key(), credential("v2"), NOW + 120)
    assert cache.usable(key(), NOW + 120) is not first


@pytest.mark.parametrize(
    ("temporary", "after", "seconds"),
    [(False, 0, PERMANENT_REFUSAL_SECONDS), (True, 0, 1), (True, 3, 3), (True, 3600, 5)],
)
def test_a_refusal_is_remembered_for_a_short_time(temporary: bool, after: float, seconds: float) -> None:
    cache = CredentialCache(16)
    refuse(cache, key(), "word", temporary=temporary, after=after)
    assert cache.refusal(key(), NOW + seconds - 0.1) is not None
    assert cache.refusal(key(), NOW + seconds) is None
    assert cache.refusal(key(), NOW) is None, "it is gone, not only out of date"


@pytest.mark.parametrize(
    ("code", "temporary", "survives"),
    [
        ("refresh_failed_temporary", True, True),
        ("refresh_failed_permanent", False, True),
        ("connection_not_active", False, False),
        ("binding_not_in_plan", False, False),
        ("credential_not_found", False, False),
    ],
)
def test_what_a_refusal_does_to_the_value_in_hand(code: str, temporary: bool, survives: bool) -> None:
    cache = CredentialCache(16)
    store(cache, key(), credential(expires_at=NOW + 1000))
    until = refuse(cache, key(), code, temporary=temporary)
    assert (cache.usable(key(), NOW) is not None) is survives
    if survives:
        assert cache.entries[key()].refresh_at == until, "asked again when the refusal ends, not per request"


def test_a_success_ends_a_refusal() -> None:
    cache = CredentialCache(16)
    refuse(cache, key(), "word", temporary=False)
    store(cache, key(), credential())
    assert cache.refusal(key(), NOW) is None


@pytest.mark.parametrize(
    ("kind", "name", "left"),
    [
        (Invalidated.CONNECTION, "con_1", {"con_2", "con_3"}),
        (Invalidated.BINDING, "bnd_2", {"con_1", "con_3"}),
        (Invalidated.ORGANIZATION, "org_3", {"con_1", "con_2"}),
        (Invalidated.CONNECTION, "bnd_2", {"con_1", "con_2", "con_3"}),
        (Invalidated.ALL, None, set[str]()),
    ],
)
def test_an_invalidation_forgets_what_it_names(kind: Invalidated, name: str | None, left: set[str]) -> None:
    cache = CredentialCache(16)
    for number in (1, 2, 3):
        of = key(number, binding_id=f"bnd_{number}", organization_id=f"org_{number}")
        store(cache, of, credential())
    assert cache.invalidate(kind, name) == 3 - len(left)
    assert {of.connection_id for of in cache.entries} == left


def test_an_invalidation_forgets_refusals_too() -> None:
    cache = CredentialCache(16)
    refuse(cache, key(), "connection_not_active", temporary=False)
    assert cache.invalidate(Invalidated.CONNECTION, "con_1") == 0
    assert cache.refusal(key(), NOW) is None


def test_a_value_that_was_fetched_before_an_invalidation_is_not_kept() -> None:
    cache = CredentialCache(16)
    ticket = cache.begin(key())
    cache.invalidate(Invalidated.CONNECTION, "con_1")
    assert not cache.finish(ticket, request(key()), credential(), NOW)
    assert cache.usable(key(), NOW) is None
    ticket = cache.begin(key())
    cache.invalidate(Invalidated.BINDING, "another")
    assert cache.finish(ticket, request(key()), credential(), NOW)


def test_a_refusal_from_before_an_invalidation_is_not_remembered() -> None:
    cache = CredentialCache(16)
    ticket = cache.begin(key())
    cache.invalidate(Invalidated.ALL, None)
    cache.fail(ticket, code="connection_not_active", temporary=False, retry_after_seconds=0, now=NOW)
    assert cache.refusal(key(), NOW) is None


@pytest.mark.parametrize(
    ("kind", "name", "code"),
    [
        (Invalidated.CONNECTION, "con_1", "connection_not_active"),
        (Invalidated.BINDING, "bnd_1", "binding_not_in_plan"),
    ],
)
def test_what_is_revoked_gets_no_credential_until_then(kind: Invalidated, name: str, code: str) -> None:
    cache = CredentialCache(16)
    store(cache, key(), credential())
    ticket = cache.begin(key())
    assert cache.revoke(kind, name, NOW + 100, NOW) == 1
    assert cache.usable(key(), NOW) is None
    assert not cache.finish(ticket, request(key()), credential(), NOW)
    assert not store(cache, key(), credential(), NOW + 99)
    refusal = cache.refusal(key(), NOW + 99)
    assert refusal is not None
    assert (refusal.code, refusal.temporary) == (code, False)
    cache.revoke(kind, name, NOW + 50, NOW)
    assert cache.refusal(key(), NOW + 99) is not None, "a shorter one does not end a longer one"
    assert cache.refusal(key(), NOW + 100) is None
    assert store(cache, key(), credential(), NOW + 100)


@pytest.mark.parametrize(("kind", "name"), [(Invalidated.CONNECTION, "con_1"), (Invalidated.BINDING, "bnd_1")])
def test_c8_an_order_about_one_organization_leaves_what_another_calls_alike(kind: Invalidated, name: str) -> None:
    mine, theirs = key(organization_id="org_1"), key(organization_id="org_2")
    cache = CredentialCache(16)
    for of in (mine, theirs):
        store(cache, of, credential())
    under_way = cache.begin(theirs)
    assert cache.invalidate(kind, name, "org_1") == 1
    assert (cache.usable(mine, NOW), under_way.outdated) == (None, False)
    store(cache, mine, credential())
    assert cache.revoke(kind, name, NOW + 100, NOW, "org_1") == 1
    assert cache.finish(under_way, request(theirs), credential("v2"), NOW)
    assert cache.refusal(mine, NOW) is not None
    assert cache.refusal(theirs, NOW) is None
    assert not store(cache, mine, credential())
    # One that names nobody is about all that bear the id, and the later end counts.
    assert cache.revoke(kind, name, NOW + 50, NOW) == 1
    assert [cache.refusal(of, NOW + 49) is None for of in (mine, theirs)] == [False, False]
    assert [cache.refusal(of, NOW + 99) is None for of in (mine, theirs)] == [False, True]


def test_a_revocation_that_finds_no_room_is_told() -> None:
    cache = CredentialCache(2)
    for name in ("con_1", "con_2", "con_1"):
        cache.revoke(Invalidated.CONNECTION, name, NOW + 10, NOW)
    with pytest.raises(RevocationsFull):
        cache.revoke(Invalidated.CONNECTION, "con_3", NOW + 10, NOW)
    cache.revoke(Invalidated.CONNECTION, "con_3", NOW + 20, NOW + 10)
    with pytest.raises(ValueError, match="only a connection or a binding"):
        cache.revoke(Invalidated.ORGANIZATION, "org_1", NOW + 10, NOW)


def test_c9_a_rejected_version_is_forgotten_once_in_thirty_seconds() -> None:
    cache = CredentialCache(16)
    store(cache, key(), credential("v1"))
    assert cache.rejected(key(), "v1", NOW)
    assert cache.usable(key(), NOW) is None
    store(cache, key(), credential("v2"))
    assert not cache.rejected(key(), "v2", NOW + 29.9)
    assert cache.usable(key(), NOW) is not None
    assert cache.rejected(key(), "v2", NOW + 30)
    assert cache.usable(key(), NOW) is None


def test_c9_a_rejection_of_an_older_version_leaves_the_newer_one() -> None:
    cache = CredentialCache(16)
    store(cache, key(), credential("v2"))
    assert cache.rejected(key(), "v1", NOW)
    assert cache.usable(key(), NOW) is not None


def test_c9_a_rejection_outdates_what_is_being_fetched() -> None:
    cache = CredentialCache(16)
    store(cache, key(), credential("v1"))
    ticket = cache.begin(key())
    assert cache.rejected(key(), "v1", NOW)
    assert not cache.finish(ticket, request(key()), credential("v1"), NOW)
    assert cache.usable(key(), NOW) is None


def test_t5_a_clock_set_back_does_not_lock_a_key_out() -> None:
    cache = CredentialCache(16)
    assert cache.rejected(key(), "v1", NOW)
    assert cache.rejected(key(), "v1", NOW - 3600)


def test_a_second_resolution_of_a_key_is_our_bug() -> None:
    cache = CredentialCache(16)
    ticket = cache.begin(key())
    with pytest.raises(RuntimeError, match="second resolution"):
        cache.begin(key())
    cache.abandon(ticket)
    cache.begin(key())


def test_what_nobody_asks_for_goes_first() -> None:
    cache = CredentialCache(3)
    for number in (1, 2, 3):
        store(cache, key(number), credential())
    store(cache, key(1), credential(), NOW + 60)  # in use, so it was read again
    store(cache, key(4), credential(), NOW + 61)
    assert {of.connection_id for of in cache.entries} == {"con_1", "con_3", "con_4"}


def test_dead_values_leave_memory_before_the_table_is_full() -> None:
    cache = CredentialCache(100)
    store(cache, key(1), credential(expires_at=NOW + 10))
    store(cache, key(2), credential(expires_at=NOW + 20))
    store(cache, key(3), credential(), NOW + 30)
    assert set(cache.entries) == {key(3)}


def test_every_table_is_bounded() -> None:
    cache = CredentialCache(4)
    for number in range(20):
        refuse(cache, key(number), "word", temporary=True)
        cache.rejected(key(number), "v", NOW)
        store(cache, key(100 + number), credential())
    assert repr(cache) == "<CredentialCache 4 values, 4 refusals, 0 under way>"
    assert len(cache._rejected_at) == 4


def test_c14_nothing_prints_a_secret() -> None:
    cache = CredentialCache(4)
    store(cache, key(), credential())
    shown = f"{cache!r} {cache.entries!r} {credential()!r} {credential()} {request(key())!r}"
    assert "canary" not in shown


class CacheMachine(RuleBasedStateMachine):
    """Whatever happens in whatever order: nothing expired is served, nothing invalidated comes back, all is bounded."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = CredentialCache(3)
        self.now = NOW
        self.number = 0
        # The number of the last value that may not be served any more, by key.
        self.dead_up_to: dict[CredentialKey, int] = {}

    @rule(seconds=st.sampled_from([0.5, 5, 31, 70]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(which=st.integers(0, 4), life=st.sampled_from([None, 1.0, 30.0, 3600.0]), invalidate=st.booleans())
    def resolve(self, which: int, life: float | None, invalidate: bool) -> None:
        of = key(which)
        self.number += 1
        ticket = self.cache.begin(of)
        if invalidate:
            self.cache.invalidate(Invalidated.CONNECTION, of.connection_id)
            self.dead_up_to[of] = self.number
        value = credential(str(self.number), None if life is None else self.now + life)
        assert self.cache.finish(ticket, request(of), value, self.now) is not invalidate

    @rule(which=st.integers(0, 4))
    def withdraw(self, which: int) -> None:
        of = key(which)
        ticket = self.cache.begin(of)
        self.cache.fail(ticket, code="connection_not_active", temporary=False, retry_after_seconds=0, now=self.now)
        self.dead_up_to[of] = self.number

    @invariant()
    def nothing_wrong_is_served(self) -> None:
        assert len(self.cache.entries) <= 3
        for of, entry in list(self.cache.entries.items()):
            assert entry.refresh_at <= entry.usable_until
            value = self.cache.usable(of, self.now)
            if value is not None:
                assert (value.expires_at or math.inf) > self.now
                assert int(value.version) > self.dead_up_to.get(of, 0)


TestCacheMachine = CacheMachine.TestCase
TestCacheMachine.settings = settings(stateful_step_count=15)
