"""Keys of AWS as an operator writes them down: strict, and never quoted (C4, C14)."""

import json

import pytest

from gateway.core.aws_keys import AwsKeys, KeysUnusable, check_access_key_id, read_keys
from sallyport.secret import Secret

WRITTEN = {"kind": "aws_session", "accessKeyId": "AKIAEXAMPLE", "secretAccessKey": "canary/+secret"}


def test_keys_with_and_without_an_end() -> None:
    keys = AwsKeys("AKIAEXAMPLE", Secret(b"canary/+secret"), None)
    assert read_keys(json.dumps(WRITTEN)) == (keys, None)
    whole = WRITTEN | {"sessionToken": "canary-token==", "expiresAt": 1_900_000_000}
    temporary = keys._replace(session_token=Secret(b"canary-token=="))
    assert read_keys(json.dumps(whole, indent=2) + "\n") == (temporary, 1_900_000_000)
    assert "canary" not in repr(temporary)


@pytest.mark.parametrize(
    "text",
    ["", "sk-plain-value", "{", "{}", "[]", '{"type": "service_account", "private_key": "x"}', '{"kind": 1}'],
)
def test_another_credential_is_none(text: str) -> None:
    assert read_keys(text) is None


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"accessKeyId": None}, "accessKeyId is not a text"),
        ({"accessKeyId": "canary/x"}, "accessKeyId is not 1 to 128"),
        ({"accessKeyId": "canary\r\nX: 1"}, "accessKeyId is not 1 to 128"),
        ({"secretAccessKey": ""}, "secretAccessKey is refused: it is empty"),
        ({"secretAccessKey": ["canary"]}, "secretAccessKey is not a text"),
        ({"sessionToken": "canary\r\nX-Evil: 1"}, "sessionToken is refused: it contains a carriage return"),
        ({"sessionToken": None}, "sessionToken is not a text"),
        ({"expiresAt": "canary"}, "expiresAt is not an instant"),
        ({"expiresAt": True}, "expiresAt is not an instant"),
        ({"expiresAt": 1_900_000_000_000}, "expiresAt is not an instant"),
        ({"canary": 1}, "this one has 1 unknown"),
    ],
)
def test_c4_what_cannot_be_signed_with(members: dict[str, object], told: str) -> None:
    with pytest.raises(KeysUnusable, match=told) as caught:
        read_keys(json.dumps(WRITTEN | members))
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("missing", ["accessKeyId", "secretAccessKey"])
def test_what_is_missing_is_named(missing: str) -> None:
    with pytest.raises(KeysUnusable, match=f"no {missing}"):
        read_keys(json.dumps({name: value for name, value in WRITTEN.items() if name != missing}))


def test_an_access_key_id_is_a_word() -> None:
    assert check_access_key_id("AKIA_0-z") == "AKIA_0-z"
    with pytest.raises(KeysUnusable):
        check_access_key_id("a" * 129)
