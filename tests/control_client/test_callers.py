"""Service tokens, verified by keys that come from a control plane."""

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from control_client.callers import LEAST_SECONDS, REFRESH_SECONDS, CallerCheck, read_keys
from control_client.errors import ControlError
from sallyport.claims import AUDIENCE_CONTROL, AUDIENCE_WORKER, TokenError, TokenFault
from tests.support.control_sessions import control_session
from tests.support.fake_control import FakeControl, answer
from tests.support.signed_tokens import KEY, NOW, OTHER_KEY, claims, jwk, mint

PATH = "/.well-known/jwks.json"
GOOD = claims(aud=AUDIENCE_WORKER, sub="operator")
HEADER = {"alg": "EdDSA", "kid": "key_1"}


class Scene:
    """A check whose clock is the test's and whose keys are key_1 until told otherwise."""

    def __init__(self, fake: FakeControl, check: CallerCheck, at: list[float]) -> None:
        self.fake = fake
        self.check = check
        self._at = at

    def pass_time(self, seconds: float) -> None:
        self._at[0] += seconds

    def publish(self, *keys: dict[str, object]) -> None:
        for _ in range(8):
            self.fake.misbehave(PATH, answer(200, json.dumps({"keys": keys}).encode()))

    async def caller(self, payload: dict[str, object] = GOOD, **header: object) -> str:
        token = mint(payload, header=HEADER | header)
        return (await self.check.check(f"Bearer {token}")).sandbox_id


@contextlib.asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Scene]:
    at = [1000.0]
    async with control_session(folder) as (fake, session, _):
        check = CallerCheck(
            session, audience=AUDIENCE_WORKER, issuer="sallyport", wall=lambda: NOW, clock=lambda: at[0]
        )
        yield Scene(fake, check, at)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with opened(tmp_path) as scene:
        scene.publish(jwk(kid="key_1"))
        yield scene


async def test_a_service_token_names_its_caller(scene: Scene) -> None:
    assert await scene.caller() == "operator"
    await scene.caller()
    assert scene.fake.count(PATH) == 1
    assert repr(scene.check) == "<CallerCheck sallyport-worker: 1 keys>"


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        (None, TokenFault.MALFORMED),
        ("Basic eDp5", TokenFault.MALFORMED),
        ("Bearer x", TokenFault.MALFORMED),
        ("Bearer \udcff", TokenFault.MALFORMED),
        (f"Bearer {mint(GOOD, header=HEADER | {'alg': 'none'})}", TokenFault.ALGORITHM),
        (f"Bearer {mint(GOOD, header=HEADER | {'alg': 'HS256'})}", TokenFault.ALGORITHM),
        (f"Bearer {mint(GOOD, header={'alg': 'EdDSA'})}", TokenFault.UNKNOWN_KEY),
        (f"Bearer {mint(GOOD, header=HEADER, key=OTHER_KEY)}", TokenFault.SIGNATURE),
        (f"Bearer {mint(GOOD | {'aud': AUDIENCE_CONTROL}, header=HEADER)}", TokenFault.WRONG_AUDIENCE),
        (f"Bearer {mint(GOOD | {'iss': 'elsewhere'}, header=HEADER)}", TokenFault.WRONG_ISSUER),
        (f"Bearer {mint(GOOD | {'iat': 1, 'nbf': 1, 'exp': int(NOW)}, header=HEADER)}", TokenFault.LIFETIME),
    ],
)
async def test_anything_else_is_refused(scene: Scene, authorization: str | None, reason: TokenFault) -> None:
    with pytest.raises(TokenError) as caught:
        await scene.check.check(authorization)
    assert caught.value.reason is reason


async def test_an_unknown_key_is_asked_for_but_not_again_and_again(scene: Scene) -> None:
    await scene.check.prepare()
    for _ in range(3):
        with pytest.raises(TokenError) as caught:
            await scene.caller(kid="key_2")
        assert caught.value.reason is TokenFault.UNKNOWN_KEY
    assert scene.fake.count(PATH) == 1
    scene.pass_time(LEAST_SECONDS)
    with pytest.raises(TokenError):
        await scene.caller(kid="key_2")
    assert scene.fake.count(PATH) == 2


async def test_a_key_that_is_withdrawn_takes_its_tokens_with_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as scene:
        scene.fake.misbehave(PATH, answer(200, json.dumps({"keys": [jwk(kid="key_1")]}).encode()))
        scene.publish(jwk(OTHER_KEY, kid="key_2"))
        assert await scene.caller() == "operator"
        scene.pass_time(REFRESH_SECONDS)
        with pytest.raises(TokenError):
            await scene.caller()


async def test_known_keys_serve_on_while_the_control_plane_is_away(scene: Scene) -> None:
    await scene.check.prepare()
    await scene.fake.stop()
    scene.pass_time(REFRESH_SECONDS)
    assert await scene.caller() == "operator"


async def test_without_any_key_nothing_can_be_said(scene: Scene) -> None:
    await scene.fake.stop()
    for _ in range(2):
        with pytest.raises(ControlError) as caught:
            await scene.caller()
        assert (caught.value.code, caught.value.temporary) == ("no_keys", True)


def test_keys_of_other_kinds_and_uses_are_passed_over() -> None:
    others = [
        {"kty": "RSA", "n": "AQ", "e": "AQ", "kid": "rsa"},
        {"kty": "OKP", "crv": "X25519", "x": "AA", "kid": "x"},
        jwk(kid="enc", use="enc"),
        jwk(kid="ops", key_ops=["sign"]),
        jwk(kid="alg", alg="Ed448"),
        jwk(),
    ]
    keys = read_keys(json.dumps({"keys": [*others, jwk(kid="key_1", use="sig", key_ops=["verify"])]}).encode())
    assert keys == {"key_1": KEY.public_key()}


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": [1]}',
        b'{"keys": ["kty"]}',
        b'{"keys": [{}]}',
        b'{"keys": [{"kty":"OKP","crv":"Ed25519","kid":"k"}]}',
        b'{"keys": [{"kty":"OKP","crv":"Ed25519","kid":"k","x":"AA"}]}',
        b'{"keys": [{"kty":"OKP","crv":"Ed25519","kid":"k","x":"A+=="}]}',
        json.dumps({"keys": [{"kty": "x"}] * 65}).encode(),
    ],
)
def test_what_is_no_key_set_is_a_control_error(document: bytes) -> None:
    with pytest.raises(ControlError):
        read_keys(document)
