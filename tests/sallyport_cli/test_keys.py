import json
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.keys import KeyRing, KeySet
from gateway.revocations import Revocations
from gateway.tokens import TokenVerifier
from sallyport.claims import AUDIENCE_PROXY
from sallyport_cli import keys
from sallyport_cli.failure import Failure

PEM = b"-----BEGIN PRIVATE KEY-----\nkey\n-----END PRIVATE KEY-----\n"
NOW = 1_800_000_000.0


def minted(key: Ed25519PrivateKey, **changes: object) -> keys.Minted:
    arguments: dict[str, object] = {
        "sandbox_id": "sbx_1",
        "organization_id": "org_1",
        "audience": AUDIENCE_PROXY,
        "issuer": "sallyport",
        "ttl_seconds": 60.0,
        "now": NOW,
    }
    return keys.mint(key, **(arguments | changes))  # type: ignore[arg-type]  # a table of arguments


def test_the_gateway_takes_what_the_files_sign(tmp_path: Path) -> None:
    files = keys.generate_key_files(tmp_path / "keys")
    token = minted(keys.read_private_key(files.private)).token
    for key_set in (
        KeySet.from_public_key_pem(files.public.read_bytes()),
        KeySet.from_jwks(files.jwks.read_bytes()),
    ):
        verifier = TokenVerifier(
            KeyRing(key_set), issuer="sallyport", audience=AUDIENCE_PROXY, revocations=Revocations()
        )
        claims = verifier.verify(token, NOW)
        assert (claims.sandbox_id, claims.organization_id, claims.expires_at) == ("sbx_1", "org_1", int(NOW) + 60)


def test_the_private_key_is_its_owners_alone(tmp_path: Path) -> None:
    files = keys.generate_key_files(tmp_path / "keys")
    assert stat.S_IMODE(files.private.stat().st_mode) == 0o600
    public = json.loads(files.jwks.read_text())["keys"][0]
    assert "d" not in public
    assert public["kid"] == files.key_id


def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    files = keys.generate_key_files(tmp_path)
    before = files.private.read_bytes()
    with pytest.raises(Failure, match="exists already"):
        keys.generate_key_files(tmp_path)
    assert files.private.read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"", b"nothing", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_what_is_no_key_says_how_to_make_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(Failure, match="is not an Ed25519 private key") as caught:
        keys.read_private_key(tmp_path / "key")
    assert "keygen" in caught.value.hint


def test_a_public_key_cannot_sign(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="is not an Ed25519 private key"):
        keys.read_private_key(keys.generate_key_files(tmp_path).public)


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"sandbox_id": "a b"}, "--sandbox"),
        ({"organization_id": ""}, "--org"),
        ({"issuer": "\n"}, "--issuer"),
        ({"ttl_seconds": 400 * 86_400.0}, "--ttl"),
    ],
)
def test_a_token_that_a_gateway_would_refuse_is_not_signed(changes: dict[str, object], option: str) -> None:
    with pytest.raises(Failure, match="would refuse") as caught:
        minted(keys.new_private_key(), **changes)
    assert option in caught.value.hint


def test_the_token_is_not_in_the_repr() -> None:
    token = minted(keys.new_private_key())
    assert token.token not in repr(token)
    assert repr(token) == f"<Minted {token.token_id} until {int(NOW) + 60}>"
