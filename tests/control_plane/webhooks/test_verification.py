"""Signatures: the published ones, right ones, and every wrong one."""

from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.definitions.contract import HmacSignature, Verification
from control_plane.webhooks.verification import TOLERANCE_SECONDS, is_fresh, is_signed
from sallyport.secret import Secret
from tests.support.control_plane import NOW
from tests.support.webhook_signatures import HEX, SIGNING, SLACK, STANDARD, STANDARD_SIGNING, signed
from tests.support.webhook_stage import request

SCHEMES: Final[dict[str, Verification]] = {
    "github-sha256": HmacSignature(header="x-hub-signature-256", prefix="sha256="),
    "linear-sha256": HmacSignature(header="linear-signature"),
    "slack-v0": SLACK,
    "standard-webhooks-v1": STANDARD,
}
BODY: Final = b'{"text": "\xc3\xa4\x00"}'
SECRETS: Final = {HEX: SIGNING, SLACK: SIGNING, STANDARD: STANDARD_SIGNING}
EACH = pytest.mark.parametrize("scheme", [HEX, SLACK, STANDARD], ids=["hmac", "slack", "standard"])


def accepted(
    scheme: Verification, body: bytes, headers: dict[str, str], now: float = NOW, secret: str | None = None
) -> bool:
    key = Secret((secret or SECRETS[scheme]).encode())
    return is_signed(scheme, key, request(body, headers), now)


def good(scheme: Verification, now: float = NOW, secret: str | None = None) -> dict[str, str]:
    return signed(scheme, BODY, now, secret or SECRETS[scheme])


def test_published_vectors(corpus: Callable[[str], Any], record_property: Callable[[str, object], None]) -> None:
    vectors = corpus("webhook_signature_vectors.json")
    for vector in vectors:
        headers = {name.lower(): value for name, value in vector["header"].items()}
        now = float(vector.get("timestamp", NOW))
        secret, scheme, body = Secret(vector["secret"].encode()), SCHEMES[vector["scheme"]], vector["body"].encode()
        assert is_signed(scheme, secret, request(body, headers), now) == vector["valid"], vector
        assert not is_signed(scheme, secret, request(body + b" ", headers), now)
        assert not is_signed(scheme, Secret(b"whsec_AAAA"), request(body, headers), now)
    record_property("tried", ("webhook vectors", len(vectors)))


@EACH
def test_the_right_one_and_what_is_left_of_it(scheme: Verification) -> None:
    headers = good(scheme)
    assert accepted(scheme, BODY, headers)
    assert not accepted(scheme, BODY[:-1], headers)
    assert not accepted(scheme, b"", headers)
    assert not accepted(scheme, BODY, headers, secret=STANDARD_SIGNING.replace("M", "N"))
    for name, value in headers.items():
        assert not accepted(scheme, BODY, {**headers, name: ""}), name
        assert not accepted(scheme, BODY, {**headers, name: value + "0"}), name
        # A field that stands there twice; a list of signatures may.
        twice = accepted(scheme, BODY, {**headers, name: f"{value}, {value}"})
        assert twice == (name == "webhook-signature"), name
        assert not accepted(scheme, BODY, {each: headers[each] for each in headers if each != name}), name


@pytest.mark.parametrize("scheme", [SLACK, STANDARD], ids=["slack", "standard"])
def test_a_signed_time_has_to_be_near(scheme: Verification) -> None:
    headers = good(scheme)
    for seconds in (-TOLERANCE_SECONDS, 0, TOLERANCE_SECONDS):
        assert accepted(scheme, BODY, headers, NOW + seconds)
    for seconds in (-TOLERANCE_SECONDS - 1, TOLERANCE_SECONDS + 1):
        assert not accepted(scheme, BODY, headers, NOW + seconds)


def test_any_of_several_standard_signatures_will_do() -> None:
    headers = good(STANDARD)
    name = "webhook-signature"
    other = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert accepted(STANDARD, BODY, {**headers, name: f"v1a,abc {other} {headers[name]}"})
    assert not accepted(STANDARD, BODY, {**headers, name: f"v1a,abc {other}"})
    assert not accepted(STANDARD, BODY, {**headers, name: headers[name].replace("v1,", "v2,")})


def test_a_secret_that_is_no_base64_signs_nothing() -> None:
    assert not accepted(STANDARD, BODY, good(STANDARD), secret="whsec_not base64!")
    assert not accepted(STANDARD, BODY, {**good(STANDARD), "webhook-signature": ""}, secret="whsec_not base64!")


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", " 1800000000", "1800000000.0", "1_800_000_000", "١٨٠٠٠٠٠٠٠٠", "9" * 400]
)
def test_what_is_no_time(text: str) -> None:
    assert not is_fresh(text, NOW)


@EACH
@given(st.data())
def test_nothing_a_sender_writes_is_believed_or_raises(scheme: Verification, data: st.DataObject) -> None:
    headers = dict(good(scheme))
    name = data.draw(st.sampled_from(sorted(headers)))
    value = data.draw(st.text(st.characters(max_codepoint=0x2FF), max_size=80))
    body = data.draw(st.binary(max_size=40))
    expected = body == BODY and value == headers[name]
    assert accepted(scheme, body, headers | {name: value}) == expected
    # What is not the signature is signed or bounded: no other value passes with the right body either.
    assert accepted(scheme, BODY, headers | {name: value}) == (value == headers[name])
