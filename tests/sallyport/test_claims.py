"""Claims, one fault at a time (contracts section 3, egress case T1)."""

import pytest

from sallyport.claims import (
    AUDIENCE_GATEWAY,
    AUDIENCE_PROXY,
    MAX_LIFETIME_SECONDS,
    MAX_TEXT_LENGTH,
    Claims,
    TokenError,
    TokenFault,
    check_claims,
    check_instant,
)

NOW = 1_750_000_000

PAYLOAD: dict[str, object] = {
    "iss": "sallyport",
    "aud": AUDIENCE_PROXY,
    "sub": "sbx_1",
    "org": "org_1",
    "sid": "lin_1",
    "iat": NOW - 10,
    "nbf": NOW - 10,
    "exp": NOW + 3600,
    "jti": "tok_1",
}


def check(payload: dict[str, object], *, now: float = NOW, leeway_seconds: float = 0.0) -> Claims:
    audience = AUDIENCE_GATEWAY if payload.get("aud") == AUDIENCE_GATEWAY else AUDIENCE_PROXY
    return check_claims(payload, audience=audience, issuer="sallyport", now=now, leeway_seconds=leeway_seconds)


def fault(payload: dict[str, object], *, now: float = NOW, leeway_seconds: float = 0.0) -> TokenFault:
    with pytest.raises(TokenError) as caught:
        check(payload, now=now, leeway_seconds=leeway_seconds)
    assert not any(isinstance(value, str) and value and value in str(caught.value) for value in payload.values())
    return caught.value.reason


def test_good_claims() -> None:
    assert check({**PAYLOAD, "custom": [1]}) == Claims(
        issuer="sallyport",
        audience=AUDIENCE_PROXY,
        sandbox_id="sbx_1",
        organization_id="org_1",
        lineage="lin_1",
        issued_at=NOW - 10,
        not_before=NOW - 10,
        expires_at=NOW + 3600,
        token_id="tok_1",
    )


@pytest.mark.parametrize("name", PAYLOAD)
def test_t1_every_claim_is_needed(name: str) -> None:
    assert fault({key: value for key, value in PAYLOAD.items() if key != name}) is TokenFault.MISSING_CLAIM


@pytest.mark.parametrize("name", ["iss", "aud", "sub", "org", "sid", "jti"])
@pytest.mark.parametrize(
    "value",
    [None, 1, True, ["sallyport-proxy"], {}, "", "a b", "a\n", "a\x7f", "\xe4", "\u202e", "x" * (MAX_TEXT_LENGTH + 1)],
)
def test_t1_text_claims_are_short_visible_ascii(name: str, value: object) -> None:
    assert fault({**PAYLOAD, name: value}) is TokenFault.INVALID_CLAIM


def test_text_claim_of_the_greatest_length() -> None:
    assert check({**PAYLOAD, "sub": "x" * MAX_TEXT_LENGTH}).sandbox_id == "x" * MAX_TEXT_LENGTH


@pytest.mark.parametrize("name", ["iat", "nbf", "exp"])
@pytest.mark.parametrize("value", [None, True, False, float(NOW), str(NOW), [NOW], -1, 2**53])
def test_t1_instants_are_whole_numbers(name: str, value: object) -> None:
    assert fault({**PAYLOAD, name: value}) is TokenFault.INVALID_CLAIM


def test_t1_other_issuer() -> None:
    assert fault({**PAYLOAD, "iss": "sallyport2"}) is TokenFault.WRONG_ISSUER


@pytest.mark.parametrize("audience", ["sallyport-tunnel", "Sallyport-Proxy", "sallyport-proxy,sallyport-tunnel"])
def test_t1_other_audience(audience: str) -> None:
    assert fault({**PAYLOAD, "aud": audience}) is TokenFault.WRONG_AUDIENCE


def test_t1_expired_to_the_second_whatever_the_leeway() -> None:
    assert check(PAYLOAD, now=NOW + 3599.999).token_id == "tok_1"
    assert fault(PAYLOAD, now=NOW + 3600) is TokenFault.EXPIRED
    assert fault(PAYLOAD, now=NOW + 3600, leeway_seconds=60) is TokenFault.EXPIRED


@pytest.mark.parametrize("name", ["nbf", "iat"])
def test_t1_not_yet_valid_beyond_the_leeway(name: str) -> None:
    ahead = {**PAYLOAD, name: NOW + 5}
    assert fault(ahead) is TokenFault.NOT_YET_VALID
    assert fault(ahead, leeway_seconds=4.9) is TokenFault.NOT_YET_VALID
    assert check(ahead, leeway_seconds=5).token_id == "tok_1"


@pytest.mark.parametrize(
    "life",
    [
        {"exp": NOW - 10},
        {"exp": NOW + 100, "nbf": NOW + 100},
        {"exp": NOW + 100, "iat": NOW + 200},
        {"exp": NOW - 9 + MAX_LIFETIME_SECONDS},
        {"exp": NOW * 1000, "nbf": NOW, "iat": NOW},  # milliseconds for seconds
        {"nbf": 0, "exp": NOW + 1},
    ],
)
def test_t1_absurd_lives(life: dict[str, object]) -> None:
    assert fault({**PAYLOAD, **life}) is TokenFault.LIFETIME


def test_longest_life() -> None:
    assert check({**PAYLOAD, "exp": NOW - 10 + MAX_LIFETIME_SECONDS}).expires_at > NOW


def test_service_tokens_need_no_organization_or_lineage() -> None:
    service = {key: value for key, value in PAYLOAD.items() if key not in ("org", "sid")} | {"aud": AUDIENCE_GATEWAY}
    claims = check(service)
    assert (claims.organization_id, claims.lineage) == ("", "")
    assert check({**service, "org": "org_1", "sid": "lin_1"}).organization_id == "org_1"
    assert fault({**service, "org": ""}) is TokenFault.INVALID_CLAIM
    assert fault({**service, "sid": 7}) is TokenFault.INVALID_CLAIM


def test_check_instant_judges_again_at_another_time() -> None:
    claims = check(PAYLOAD)
    check_instant(claims, now=NOW + 1)
    with pytest.raises(TokenError, match="expired"):
        check_instant(claims, now=NOW + 3600)
    with pytest.raises(TokenError, match="future"):
        check_instant(claims, now=NOW - 11)  # a clock that was set back
