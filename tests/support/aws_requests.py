"""Requests to sign, made up by hypothesis, and the gateway's signature of each; the keys are of AWS's examples."""

import hashlib
from collections.abc import Sequence
from urllib.parse import quote

from hypothesis import strategies as st

from gateway.core.aws_keys import AwsKeys
from gateway.core.inject.aws_sigv4 import Payload, Signer
from sallyport.plan.model import AwsSigv4Injection
from sallyport.secret import Secret

# They open nothing.
KEY_ID, KEY = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TOKEN = "canary-token/+=="
REGION = "us-east-1"
AT = 1_440_938_160.0


def signer_of(service: str, key_id: str = KEY_ID, key: str = KEY, token: str | None = None) -> Signer:
    """Return a signer of a service, with the keys of the examples unless told otherwise."""
    injection = AwsSigv4Injection(type="aws_sigv4", region=REGION, service=service)
    keys = AwsKeys(key_id, Secret(key.encode()), None if token is None else Secret(token.encode()))
    return Signer(injection, keys)


def hashed(body: bytes = b"", *, is_told: bool = False) -> Payload:
    """Return the payload of a body."""
    return Payload(hashlib.sha256(body).hexdigest().encode(), is_told=is_told)


def head_of(first: str, *lines: str, host: str = "example.amazonaws.com") -> bytes:
    """Return a whole head."""
    return "".join(f"{line}\r\n" for line in (f"{first} HTTP/1.1", f"Host: {host}", *lines, "")).encode("latin-1")


_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
_SPELLED = st.builds(quote, _TEXT, st.sampled_from(["", "!'()*,:@=$;", "~"]))
_SEGMENT = _SPELLED.filter(lambda text: text.strip(".") != "" or not text)
_TARGETS = st.builds(
    lambda segments, pairs: "/" + "/".join(segments) + ("?" if pairs else "") + "&".join(f"{a}={b}" for a, b in pairs),
    st.lists(_SEGMENT, max_size=4),
    st.lists(st.tuples(st.builds(quote, _TEXT, st.just("")), st.builds(quote, _TEXT, st.just(""))), max_size=4),
)
_VALUE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20).map(str.strip)
_FIELDS = st.dictionaries(st.sampled_from(["x-amz-acl", "X-Amz-Meta-A", "Content-Type", "X-AMZ-B"]), _VALUE)
REQUESTS = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["GET", "PUT", "POST", "DELETE"]),
        "target": _TARGETS,
        "fields": _FIELDS.map(lambda fields: sorted(fields.items())),
        "body": st.text(max_size=10),
        "service": st.sampled_from(["s3", "dynamodb"]),
        "token": st.sampled_from([TOKEN, None]),
    }
)


def signed_by_us(request: dict[str, object]) -> bytes:
    """Sign one of REQUESTS as the gateway does."""
    fields = request["fields"]
    assert isinstance(fields, Sequence)
    block = head_of(
        f"{request['method']} {request['target']}", *(f"{name}: {value}" for name, value in fields), host="h.test"
    )
    token = None if request["token"] is None else str(request["token"])
    signer = signer_of(str(request["service"]), token=token)
    return signer.sign(block, hashed(str(request["body"]).encode()), AT)
