"""Credentials that are written as a header field."""

from base64 import b64encode

from sallyport.plan.model import BasicInjection, BearerInjection, HeaderInjection
from sallyport.secret import Secret


def bearer_field(injection: BearerInjection, secret: Secret) -> bytes:
    """RFC 6750 section 2.1, under the header the route names."""
    return b"%b: Bearer %b\r\n" % ((injection.header or "Authorization").encode("ascii"), secret.reveal())


def basic_field(injection: BasicInjection, secret: Secret) -> bytes:
    """RFC 7617: the secret is the password."""
    pair = injection.username.encode("utf-8") + b":" + secret.reveal()
    return b"Authorization: Basic %b\r\n" % b64encode(pair)


def header_field(injection: HeaderInjection, secret: Secret) -> bytes:
    """Prefix and secret with nothing between (contracts section 1)."""
    prefix = (injection.prefix or "").encode("latin-1")
    return b"%b: %b%b\r\n" % (injection.header.encode("ascii"), prefix, secret.reveal())


def additional_field(name: bytes, secret: Secret) -> bytes:
    """One of additionalCredentialHeaders: the secret alone."""
    return b"%b: %b\r\n" % (name, secret.reveal())
