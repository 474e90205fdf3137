"""Service tokens on the admin surface (T1: 401)."""

import pytest

from gateway.keys import KeyRing
from gateway.revocations import Revocations
from gateway.service_auth import ServiceAuth
from gateway.tokens import TokenVerifier
from sallyport.claims import AUDIENCE_GATEWAY, TokenError, TokenFault
from tests.support.signed_tokens import NOW, OTHER_KEY, claims, jwk, key_set, mint

GOOD = claims(aud=AUDIENCE_GATEWAY, sub="worker")


@pytest.fixture
def auth() -> ServiceAuth:
    keys = KeyRing(key_set(jwk()))
    verifier = TokenVerifier(keys, issuer="sallyport", audience=AUDIENCE_GATEWAY, revocations=Revocations())
    return ServiceAuth(verifier, lambda: NOW)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_a_service_token_names_its_caller(auth: ServiceAuth, scheme: str) -> None:
    assert auth.check(f"{scheme} {mint(GOOD)}").sandbox_id == "worker"
    assert auth.check(f"{scheme} {mint({k: v for k, v in GOOD.items() if k not in ('org', 'sid')})}").lineage == ""


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        (None, TokenFault.MALFORMED),
        ("", TokenFault.MALFORMED),
        ("Bearer", TokenFault.MALFORMED),
        ("Basic eDp5", TokenFault.MALFORMED),
        ("Bearer a b", TokenFault.MALFORMED),
        ("Bearer \udcff", TokenFault.MALFORMED),
        (f"Bearer {mint(claims())}", TokenFault.WRONG_AUDIENCE),
        (f"Bearer {mint(claims(aud='sallyport-control'))}", TokenFault.WRONG_AUDIENCE),
        (f"Bearer {mint(GOOD, key=OTHER_KEY)}", TokenFault.SIGNATURE),
        (f"Bearer {mint(GOOD | {'exp': int(NOW), 'iat': 1, 'nbf': 1})}", TokenFault.LIFETIME),
    ],
)
def test_anything_else_is_refused(auth: ServiceAuth, authorization: str | None, reason: TokenFault) -> None:
    with pytest.raises(TokenError) as caught:
        auth.check(authorization)
    assert caught.value.reason is reason
