"""Signature Version 4: AWS's published vectors, an independent reading, botocore's signer (C1, C14)."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given

from gateway.core.authority import Refused
from gateway.core.inject.aws_sigv4 import (
    EMPTY_HASH,
    MAX_SEGMENTS,
    Payload,
    declared_payload,
    presigned_names,
    without_presigned,
)
from gateway.core.inject.query import MAX_PARAMETERS
from sallyport.problem import Code
from sallyport.wire.http1.codec import parse_request
from tests.support.aws_requests import (
    AT,
    KEY,
    KEY_ID,
    REGION,
    REQUESTS,
    TOKEN,
    hashed,
    head_of,
    signed_by_us,
    signer_of,
)
from tests.support.aws_signature import Account, Arrived, fault_of

# Of AWS's documentation and test suite; they open nothing.
STORE_KEY_ID, STORE_KEY = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
UNRESERVED = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def signature(block: bytes) -> str:
    match = re.search(rb"Signature=([0-9a-f]{64})\r\n\r\n\Z", block)
    assert match is not None
    return match[1].decode()


# --- published --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_line", "expected"),
    [
        ("GET /", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),  # get-vanilla
        ("GET //", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),  # get-slash
        ("GET //example//", "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84"),  # get-slashes
        (f"GET /{UNRESERVED}", "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"),  # get-unreserved
        ("GET /?Param1=value1", "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"),
        ("GET /?Param2=value2&Param1=value1", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
        ("GET /?Param1=value2&Param1=Value1", "eedbc4e291e521cf13422ffca22be7d2eb8146eecf653089df300a15b2382bd1"),
        ("GET /?Param1=value2&Param1=value1", "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694"),
        (f"GET /?{UNRESERVED}={UNRESERVED}", "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197"),
        ("GET /?%E1%88%B4=bar", "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"),
        ("POST /", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),  # post-vanilla
        ("POST /?Param1=value1", "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"),
    ],
)
def test_the_test_suite_of_aws(request_line: str, expected: str) -> None:
    assert signature(signer_of("service").sign(head_of(request_line), hashed(), AT)) == expected


def test_the_test_suite_of_aws_with_a_body() -> None:
    block = head_of("POST /", "Content-Type: application/x-www-form-urlencoded")
    expected = "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"
    assert signature(signer_of("service").sign(block, hashed(b"Param1=value1"), AT)) == expected


def test_the_example_of_the_general_reference() -> None:
    block = head_of(
        "GET /?Action=ListUsers&Version=2010-05-08",
        "Content-Type: application/x-www-form-urlencoded; charset=utf-8",
        host="iam.amazonaws.com",
    )
    assert signer_of("iam").sign(block, hashed(), AT)[len(block) - 2 :] == (
        b"X-Amz-Date: 20150830T123600Z\r\n"
        b"Authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, "
        b"SignedHeaders=content-type;host;x-amz-date, "
        b"Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/?lifecycle", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        ("/?max-keys=2&prefix=J", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
    ],
)
def test_the_examples_of_the_object_store(target: str, expected: str) -> None:
    block = head_of(f"GET {target}", host="examplebucket.s3.amazonaws.com")
    at = datetime(2013, 5, 24, tzinfo=UTC).timestamp()
    signed = signer_of("s3", STORE_KEY_ID, STORE_KEY).sign(block, hashed(), at)
    assert signature(signed) == expected
    assert b"\r\nX-Amz-Content-Sha256: " + EMPTY_HASH + b"\r\n" in signed


# --- by others --------------------------------------------------------------------------------------------------------


@given(REQUESTS)
def test_whoever_reads_it_independently_agrees(request_: dict[str, object]) -> None:
    signed = signed_by_us(request_ | {"token": TOKEN})
    first, *lines = signed[:-4].decode("latin-1").split("\r\n")
    fields = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    arrived = Arrived(
        method=first.split(" ")[0],
        target=first.split(" ")[1],
        fields=fields,
        body=str(request_["body"]).encode(),
    )
    account = Account(access_key_id=KEY_ID, secret_access_key=KEY, session_token=TOKEN)
    service = str(request_["service"])
    assert fault_of(arrived, account, service, REGION, AT) == ""
    broken = Arrived(method=arrived.method, target=arrived.target + "/x", fields=fields, body=arrived.body)
    assert fault_of(broken, account, service, REGION, AT) == "SignatureDoesNotMatch"


# --- what is signed ---------------------------------------------------------------------------------------------------


def test_only_what_nobody_changes_on_the_way_is_signed() -> None:
    block = head_of(
        "PUT /k",
        "User-Agent: x",
        "Accept-Encoding: identity",
        "Expect: 100-continue",
        "Transfer-Encoding: chunked",
        "X-Amzn-Trace-Id: y",
        "X-Amz-Meta-B:  two   words ",
        "x-amz-meta-b: three",
        "content-TYPE: t",
    )
    signed = signer_of("s3", token=TOKEN).sign(block, hashed(), AT)
    names = b"content-type;host;x-amz-content-sha256;x-amz-date;x-amz-meta-b;x-amz-security-token"
    assert b"SignedHeaders=" + names + b"," in signed
    assert signed.startswith(block[:-2] + b"X-Amz-Date: 20150830T123600Z\r\nX-Amz-Security-Token: " + TOKEN.encode())


def test_the_payload_is_told_where_the_request_told_it() -> None:
    signer = signer_of("dynamodb")
    assert b"X-Amz-Content-Sha256" not in signer.sign(head_of("POST /"), hashed(), AT)
    told = signer.sign(head_of("POST /"), Payload(b"UNSIGNED-PAYLOAD", is_told=True), AT)
    assert b"\r\nX-Amz-Content-Sha256: UNSIGNED-PAYLOAD\r\n" in told


def test_the_key_of_a_day_is_that_days() -> None:
    signer = signer_of("service")
    block = head_of("GET /")
    today = signer.sign(block, hashed(), AT)
    tomorrow = signer.sign(block, hashed(), AT + 86_400)
    assert tomorrow == signer_of("service").sign(block, hashed(), AT + 86_400) != today
    assert signer.sign(block, hashed(), AT) == today


def test_object_keys_are_spelled_in_one_way_and_others_as_they_are_sent() -> None:
    spellings = [
        signer_of("s3").sign(head_of(f"GET {path}"), hashed(), AT) for path in ("/a%20b+%2Bc:d", "/a%20b%2B%2Bc%3Ad")
    ]
    assert signature(spellings[0]) == signature(spellings[1])
    apart = [signer_of("lambda").sign(head_of(f"GET {path}"), hashed(), AT) for path in ("/a:b", "/a%3Ab")]
    assert signature(apart[0]) != signature(apart[1])
    slashes = [signer_of("s3").sign(head_of(f"GET {path}"), hashed(), AT) for path in ("/a//b", "/a/b", "/a%2Fb")]
    assert len(set(map(signature, slashes))) == 3


@pytest.mark.parametrize("service", ["s3", "lambda"])
def test_s10_a_path_of_more_segments_than_any_key_has_is_refused(service: str) -> None:
    assert signer_of(service).sign(head_of("GET " + "/a" * MAX_SEGMENTS), hashed(), AT)
    with pytest.raises(Refused) as caught:
        signer_of(service).sign(head_of("GET " + "/" * (MAX_SEGMENTS + 1)), hashed(), AT)
    assert caught.value.deny.code is Code.INVALID_REQUEST


def test_s10_a_query_of_more_parameters_than_are_looked_at_is_not_signed() -> None:
    with pytest.raises(Refused):
        without_presigned(b"&" * MAX_PARAMETERS)


def test_a_plus_in_a_query_is_a_space() -> None:
    signer = signer_of("service")
    plus, space, other = (
        signer.sign(head_of(f"GET /?a={text}&&b"), hashed(), AT) for text in ("x+y", "x%20y", "x%2By")
    )
    assert signature(plus) == signature(space) != signature(other)


# --- what the sandbox says --------------------------------------------------------------------------------------------

HASH = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], Payload(EMPTY_HASH, is_told=False)),
        (["Content-Length: 0"], Payload(EMPTY_HASH, is_told=False)),
        (["Content-Length: 5"], None),
        (["Transfer-Encoding: chunked"], None),
        ([f"X-Amz-Content-Sha256: {HASH.upper()}", "Content-Length: 5"], Payload(HASH.encode(), is_told=True)),
        (["x-amz-content-sha256:UNSIGNED-PAYLOAD", "Content-Length: 5"], Payload(b"UNSIGNED-PAYLOAD", is_told=True)),
        (
            ["x-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER", "Transfer-Encoding: chunked"],
            Payload(b"STREAMING-UNSIGNED-PAYLOAD-TRAILER", is_told=True),
        ),
    ],
)
def test_what_a_request_says_of_its_body(lines: list[str], expected: Payload | None) -> None:
    assert declared_payload(parse_request(head_of("PUT /k", *lines)[:-4])) == expected


@pytest.mark.parametrize(
    "lines",
    [
        ["X-Amz-Content-Sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD"],
        ["X-Amz-Content-Sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"],
        ["X-Amz-Content-Sha256: STREAMING-AWS4-HMAC-SHA256-EVENTS"],
        ["X-Amz-Content-Sha256: STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"],
        ["X-Amz-Content-Sha256: "],
        [f"X-Amz-Content-Sha256: {HASH}0"],
        [f"X-Amz-Content-Sha256: {HASH}", "x-amz-content-sha256: UNSIGNED-PAYLOAD"],
        [f"X-Amz-Content-Sha256: {HASH}", "x_amz_content_sha256: UNSIGNED-PAYLOAD"],
    ],
)
def test_what_cannot_be_signed_anew_is_refused(lines: list[str]) -> None:
    with pytest.raises(Refused) as caught:
        declared_payload(parse_request(head_of("PUT /k", *lines)[:-4]))
    assert caught.value.deny.code is Code.INVALID_REQUEST
    assert "chunked signing" in str(caught.value.deny.hint)


@pytest.mark.parametrize(
    ("query", "left"),
    [
        (None, None),
        (b"", b""),
        (b"a=1&b=%20", b"a=1&b=%20"),
        (b"X-Amz-Signature=x&a=1", b"a=1"),
        (b"a=1&x-amz-signature=x;X%2DAmz-Credential=k&b", b"a=1&b"),
        (b"X-Amz-Date=1&X-Amz-Date=2", None),
        (b"a=X-Amz-Date", b"a=X-Amz-Date"),
        (b"X-Amz-+=1&X-Amz-%FF=2&a", b"X-Amz-%FF=2&a"),
    ],
)
def test_c1_p9_a_signature_in_the_query_is_taken_out(query: bytes | None, left: bytes | None) -> None:
    assert without_presigned(query) == left


def test_presigned_names_are_told_as_they_are_spelled() -> None:
    assert presigned_names(b"x-amz-date=1&X-Amz-Date=2&a=3") == {"x-amz-date", "X-Amz-Date"}


def test_c14_it_is_never_printed() -> None:
    assert repr(signer_of("s3")) == "<Signer>"
