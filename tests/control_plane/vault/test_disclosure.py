import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from control_plane.vault.disclosure import (
    authority_answer,
    dump_signing_key,
    fits,
    key_pem,
    load_signing_key,
    repeated_answer,
    session_answer,
    static_keys,
    value_answer,
)
from sallyport.secret import Secret


def test_a_resolve_answer_has_no_end_where_none_is_known() -> None:
    answer = orjson.loads(value_answer(Secret("schlüssel".encode()), version="ver_1", expires_at=None))
    assert answer == {"kind": "value", "value": "schlüssel", "version": "ver_1"}
    assert orjson.loads(value_answer(Secret(b"x"), version="ver_1", expires_at=7))["expiresAt"] == 7


def test_keys_of_aws_are_answered_as_a_session() -> None:
    keys = static_keys(Secret(b"AKID"), Secret(b"secret"))
    assert repr(keys) == "<Secret>"
    plain = {"kind": "aws_session", "accessKeyId": "AKID", "secretAccessKey": "secret", "version": "ver_1"}
    assert orjson.loads(session_answer(keys, version="ver_1", expires_at=None)) == plain
    assert orjson.loads(session_answer(keys, version="ver_1", expires_at=7)) == plain | {"expiresAt": 7}


def test_a_pattern_is_of_the_whole_secret() -> None:
    assert fits(Secret(b"key-abc"), "key-[a-z]+")
    assert not fits(Secret(b"key-abc1"), "key-[a-z]+")
    assert not fits(Secret(b"\xff"), "key-[a-z]+")


def test_an_authority_answer_has_the_members_of_the_contract() -> None:
    answer = orjson.loads(authority_answer(Secret(b"key"), certificate_pem="cert", not_after=9))
    assert answer == {"certificatePem": "cert", "privateKeyPem": "key", "notAfter": 9}


def test_a_signing_key_survives_its_storage() -> None:
    key = Ed25519PrivateKey.generate()
    secret = dump_signing_key(key)
    assert b"PRIVATE" not in repr(secret).encode()
    assert load_signing_key(secret).sign(b"x") == key.sign(b"x")


def test_pem_and_answers_come_as_they_were() -> None:
    assert key_pem(Secret(b"pem")) == b"pem"
    assert repeated_answer(Secret(b"{}")) == b"{}"
