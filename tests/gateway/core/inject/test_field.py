"""Credentials as header fields (contracts section 1; RFC 6750, RFC 7617)."""

from base64 import b64decode

from gateway.core.inject.field import additional_field, basic_field, bearer_field, header_field
from sallyport.plan.model import BasicInjection, BearerInjection, HeaderInjection
from sallyport.secret import Secret

SECRET = Secret(b"s3cr\xe9t value")


def test_bearer() -> None:
    assert bearer_field(BearerInjection(type="bearer"), SECRET) == b"Authorization: Bearer s3cr\xe9t value\r\n"
    named = BearerInjection(type="bearer", header="X-Auth")
    assert bearer_field(named, SECRET) == b"X-Auth: Bearer s3cr\xe9t value\r\n"


def test_basic_takes_the_secret_as_password() -> None:
    line = basic_field(BasicInjection(type="basic", username="käthe"), Secret(b"pass:word"))
    name, _, value = line.partition(b": Basic ")
    assert name == b"Authorization"
    assert value.endswith(b"\r\n")
    assert b64decode(value[:-2], validate=True) == "käthe".encode() + b":pass:word"


def test_a_long_pair_stays_on_one_line() -> None:
    line = basic_field(BasicInjection(type="basic", username="u" * 200), Secret(b"p" * 2000))
    assert line.count(b"\n") == 1


def test_prefix_and_secret_have_nothing_between() -> None:
    assert header_field(HeaderInjection(type="header", header="X-Key"), SECRET) == b"X-Key: s3cr\xe9t value\r\n"
    prefixed = HeaderInjection(type="header", header="X-Key", prefix="token=\xe9")
    assert header_field(prefixed, SECRET) == b"X-Key: token=\xe9s3cr\xe9t value\r\n"


def test_an_additional_field_is_the_secret_alone() -> None:
    assert additional_field(b"X-Second", SECRET) == b"X-Second: s3cr\xe9t value\r\n"
