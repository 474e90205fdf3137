"""Revocations: never shortened, forgotten when they have run out, bounded."""

import pytest

from gateway.revocations import Revocation, RevocationLimitError, Revocations
from sallyport.claims import Claims

NOW = 1_750_000_000.0
CLAIMS = Claims(
    issuer="sallyport",
    audience="sallyport-proxy",
    sandbox_id="sbx_1",
    organization_id="org_1",
    lineage="lin_1",
    issued_at=1,
    not_before=1,
    expires_at=2,
    token_id="tok_1",
)


@pytest.mark.parametrize(("kind", "name"), [("jti", "tok_1"), ("sid", "lin_1"), ("sandbox", "sbx_1")])
def test_what_is_named_is_covered_until_its_end(kind: str, name: str) -> None:
    revocations = Revocations()
    revocations.revoke(kind, name, NOW + 100)
    assert revocations.any
    assert revocations.cover(CLAIMS, NOW + 99)
    assert not revocations.cover(CLAIMS, NOW + 100)
    assert list(revocations) == [Revocation(kind, name, NOW + 100)]


def test_a_name_of_another_kind_covers_nothing() -> None:
    revocations = Revocations()
    revocations.revoke("jti", "sbx_1", NOW + 100)
    assert not revocations.cover(CLAIMS, NOW)


def test_a_revocation_is_never_shortened() -> None:
    revocations = Revocations()
    revocations.revoke("jti", "tok_1", NOW + 100)
    revocations.revoke("jti", "tok_1", NOW + 10)
    assert revocations.cover(CLAIMS, NOW + 99)


def test_what_has_run_out_is_forgotten_once_a_minute() -> None:
    revocations = Revocations()
    revocations.purge(NOW)
    revocations.revoke("jti", "x", NOW + 10)
    revocations.revoke("sid", "y", NOW + 100)
    revocations.purge(NOW + 59)
    assert len(revocations) == 2
    revocations.purge(NOW + 60)
    assert len(revocations) == 1
    revocations.purge(NOW + 120)
    assert not revocations.any


def test_revocations_are_bounded_and_none_in_force_is_dropped() -> None:
    revocations = Revocations(most=2)
    revocations.purge(NOW)
    revocations.revoke("jti", "a", NOW + 10)
    revocations.revoke("sid", "b", NOW + 1000)
    with pytest.raises(RevocationLimitError):
        revocations.revoke("sandbox", "c", NOW + 1000)
    revocations.revoke("sid", "b", NOW + 2000)  # one that is there already may be extended
    revocations.purge(NOW + 20)
    revocations.revoke("jti", "c", NOW + 1000)  # "a" has run out and makes room
    assert repr(revocations) == "<Revocations 2 of 2>"


def test_other_kinds_and_no_end_are_refused() -> None:
    for kind, until in (("connection", NOW), ("JTI", NOW), ("jti", float("nan")), ("jti", float("inf"))):
        with pytest.raises(ValueError, match=r"revoked|instant"):
            Revocations().revoke(kind, "x", until)
