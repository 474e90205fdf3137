"""AWS's own vectors for Signature Version 4 (its published test suite: post-vanilla, post-x-www-form-urlencoded)."""

from datetime import UTC, datetime

import pytest

from control_plane.oauth.sigv4 import Scope, signed_headers
from sallyport.secret import Secret

AT = datetime(2015, 8, 30, 12, 36, tzinfo=UTC).timestamp()
SECRET = Secret(b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")


@pytest.mark.parametrize(
    ("headers", "body", "names", "signature"),
    [
        ({}, b"", "host;x-amz-date", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        (
            {"Content-Type": "application/x-www-form-urlencoded"},
            b"Param1=value1",
            "content-type;host;x-amz-date",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
    ],
)
def test_vectors(headers: dict[str, str], body: bytes, names: str, signature: str) -> None:
    scope = Scope("us-east-1", "service", AT)
    signed = signed_headers(
        "https://example.amazonaws.com/", headers, body, scope, access_key_id="AKIDEXAMPLE", secret=SECRET
    )
    assert signed == {
        **headers,
        "X-Amz-Date": "20150830T123600Z",
        "Authorization": "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        f"SignedHeaders={names}, Signature={signature}",
    }
