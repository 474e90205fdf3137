import pytest

from control_plane import rate_limits
from control_plane.callers import Caller, Role
from control_plane.rate_limits import RateLimits
from control_plane.refusals import ControlCode, Refused
from tests.support.control_plane import NOW


def caller(name: str, role: Role = Role.MEMBER) -> Caller:
    return Caller(id=name, roles=frozenset({role}))


def test_a_caller_has_a_minute_s_worth_and_waits_then() -> None:
    limits = RateLimits(requests_per_minute=60, failed_logins_per_minute=None)
    for _ in range(60):
        limits.count_request(caller("key_1"), NOW)
    with pytest.raises(Refused) as caught:
        limits.count_request(caller("key_1"), NOW)
    assert (caught.value.code, caught.value.retry_after_seconds) == (ControlCode.RATE_LIMITED, 1)
    limits.count_request(caller("key_2"), NOW)
    limits.count_request(caller("key_1"), NOW + 1)


def test_parts_of_the_environment_have_no_limit() -> None:
    limits = RateLimits(requests_per_minute=1, failed_logins_per_minute=1)
    for _ in range(10):
        limits.count_request(caller("service:gateway", Role.SERVICE), NOW)


def test_an_address_fails_so_often() -> None:
    limits = RateLimits(requests_per_minute=None, failed_logins_per_minute=2)
    for _ in range(2):
        limits.count_failure("192.0.2.1", NOW)
    with pytest.raises(Refused) as caught:
        limits.count_failure("192.0.2.1", NOW)
    assert caught.value.retry_after_seconds == 30
    limits.count_failure("192.0.2.2", NOW)


def test_off_is_off() -> None:
    limits = RateLimits(requests_per_minute=None, failed_logins_per_minute=None)
    for _ in range(1000):
        limits.count_request(caller("key_1"), NOW)
        limits.count_failure("192.0.2.1", NOW)


def test_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "MAX_REMEMBERED", 2)
    limits = RateLimits(requests_per_minute=1, failed_logins_per_minute=1)
    for name in ("a", "b", "c", "a"):  # a was forgotten for c
        limits.count_request(caller(name), NOW)
    with pytest.raises(Refused):
        limits.count_request(caller("c"), NOW)
