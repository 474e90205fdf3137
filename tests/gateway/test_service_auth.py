"""Service tokens on the admin surface (T1: 401)."""

import pytest

from gateway.keys import KeyRing
from gateway.revocations import Revocations
from gateway.service_auth import ServiceAuth
from gateway.tokens import TokenVerifier
from sallyport.claims import AUDIENCE_DENIALS, AUDIENCE_GATEWAY, TokenError, TokenFault
from tests.support.signed_tokens import NOW, OTHER_KEY, claims, jwk, key_set, mint

GOOD = claims(aud=AUDIENCE_GATEWAY, sub="worker")


@pytest.fixture
def auth() -> ServiceAuth:
    keys = KeyRing(key_set(jwk()))
    revocations = Revocations()

    def verifier_for(audience: str) -> TokenVerifier:
        return TokenVerifier(keys, issuer="sallyport", audience=audience, revocations=revocations)

    return ServiceAuth(verifier_for, lambda: NOW)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_a_service_token_names_its_caller(auth: ServiceAuth, scheme: str) -> None:
    assert auth.check(f"{scheme} {mint(GOOD)}", "/readyz").sandbox_id == "worker"
    short = mint({name: value for name, value in GOOD.items() if name not in ("org", "sid")})
    assert auth.check(f"{scheme} {short}", "/v1/denials").lineage == ""


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
    for path in ("/readyz", "/v1/denials"):
        with pytest.raises(TokenError) as caught:
            auth.check(authorization, path)
        assert caught.value.reason is reason


def test_a_token_for_denials_opens_nothing_else(auth: ServiceAuth) -> None:
    authorization = f"Bearer {mint(claims(aud=AUDIENCE_DENIALS, sub='control-plane'))}"
    assert auth.check(authorization, "/v1/denials").sandbox_id == "control-plane"
    for path in ("/v1/flows", "/v1/denials/", "/V1/denials", "/v1/drain"):
        with pytest.raises(TokenError) as caught:
            auth.check(authorization, path)
        assert caught.value.reason is TokenFault.WRONG_AUDIENCE
