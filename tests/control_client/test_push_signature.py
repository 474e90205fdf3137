"""Signatures of pushes, against the specification's own example and whatever else may come."""

import pytest

from control_client.push_signature import TOLERANCE_SECONDS, is_signed, sign
from sallyport.secret import Secret

# The example that libraries of Standard Webhooks test themselves with.
EXAMPLE = Secret(b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
ID, AT, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
PLAIN = Secret(b"a shared secret that is no base64")


def test_it_signs_as_the_specification_has_it() -> None:
    assert sign(EXAMPLE, ID, AT, BODY) == SIGNATURE


@pytest.mark.parametrize("signature", [SIGNATURE, f"v1,AAAA {SIGNATURE}", f"v2,x {SIGNATURE} v1a,y"])
def test_one_right_signature_is_enough(signature: str) -> None:
    assert is_signed(EXAMPLE, ID, str(AT), signature, BODY, now=AT)


def test_any_text_may_be_the_secret() -> None:
    for secret in (PLAIN, Secret(b"whsec_no base64!")):
        assert is_signed(secret, ID, str(AT), sign(secret, ID, AT, BODY), BODY, now=AT)


@pytest.mark.parametrize(
    ("message_id", "timestamp", "signature", "body"),
    [
        ("msg_other", str(AT), SIGNATURE, BODY),
        (ID, str(AT + 1), SIGNATURE, BODY),
        (ID, str(AT), SIGNATURE, BODY + b" "),
        (ID, str(AT), SIGNATURE.replace("v1,", "v2,"), BODY),
        (ID, str(AT), SIGNATURE[3:], BODY),
        (ID, str(AT), "", BODY),
        (ID, str(AT), "v1,\udcff", BODY),
        (ID, str(AT), "v1,x " * 9 + SIGNATURE, BODY),
        (None, str(AT), SIGNATURE, BODY),
        ("", str(AT), SIGNATURE, BODY),
        ("\xfc", str(AT), SIGNATURE, BODY),
        (ID, None, SIGNATURE, BODY),
        (ID, f"{AT}.0", SIGNATURE, BODY),
        (ID, f" {AT}", SIGNATURE, BODY),
        (ID, "9" * 5_000, SIGNATURE, BODY),
    ],
)
def test_what_is_not_signed_so_is_not_signed(
    message_id: str | None, timestamp: str | None, signature: str, body: bytes
) -> None:
    assert not is_signed(EXAMPLE, message_id, timestamp, signature, body, now=AT)


@pytest.mark.parametrize("off", [-TOLERANCE_SECONDS, TOLERANCE_SECONDS])
def test_a_message_is_of_now(off: int) -> None:
    assert is_signed(EXAMPLE, ID, str(AT), SIGNATURE, BODY, now=AT + off)
    assert not is_signed(EXAMPLE, ID, str(AT), SIGNATURE, BODY, now=AT + off + (1 if off > 0 else -1))
