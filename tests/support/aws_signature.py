"""What a service of AWS does with a signature: read it, compute it anew from what arrived, compare.

Written from AWS's documentation ("Signature Version 4 signing process", and for object stores "Authenticating
Requests"), sharing no line with the gateway; tests/gateway/core/inject/test_aws_sigv4.py holds the two against each
other.
"""

import hashlib
import hmac
import re
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/, ]+)/(\d{8})/([^/, ]+)/([^/, ]+)/aws4_request, "
    r"SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})"
)
LONGEST_SKEW_SECONDS = 15 * 60
UNHASHED = ("UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Keys as their service knows them. Its repr says nothing."""

    access_key_id: str
    secret_access_key: str
    session_token: str

    def __repr__(self) -> str:
        return "<Account>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A request as it arrived; fields are names and values in order."""

    method: str
    target: str
    fields: Sequence[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        """Return every value of a field."""
        return [value for each, value in self.fields if each.lower() == name]


def fault_of(request: Arrived, account: Account, service: str, region: str, now: float) -> str:
    """Say what is wrong with a request's signature, or nothing."""
    path, _, query = request.target.partition("?")
    if re.search(r"x-amz-(signature|credential|security-token)", query, re.IGNORECASE):
        return "a signature in the query"
    match = [_AUTHORIZATION.fullmatch(value) for value in request.values("authorization")]
    if len(match) != 1 or match[0] is None:
        return "not one Authorization of this kind"
    key_id, day, scope_region, scope_service, signed, signature = match[0].groups()
    if (key_id, scope_region, scope_service) != (account.access_key_id, region, service):
        return "another scope"
    if request.values("x-amz-security-token") != [account.session_token]:
        return "another session"
    stamps = request.values("x-amz-date")
    if len(stamps) != 1 or not stamps[0].startswith(day):
        return "not one date"
    at = datetime.strptime(stamps[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    if abs(now - at) > LONGEST_SKEW_SECONDS:
        return "RequestTimeTooSkewed"
    names = signed.split(";")
    must = {"host", *(name.lower() for name, _ in request.fields if name.lower().startswith("x-amz-"))}
    if names != sorted(names) or not must <= set(names):
        return "a field that is not signed"
    told = request.values("x-amz-content-sha256")
    payload = hashlib.sha256(request.body).hexdigest()
    if told and told[0] not in UNHASHED and told != [payload]:
        return "XAmzContentSHA256Mismatch"
    if service == "s3" and not told:
        return "no x-amz-content-sha256"
    canonical = "\n".join(
        [
            request.method,
            _path(path, is_object=service == "s3"),
            _query(query),
            *(f"{name}:{','.join(' '.join(value.split()) for value in request.values(name))}" for name in names),
            "",
            signed,
            told[0] if told else payload,
        ]
    )
    hashed = hashlib.sha256(canonical.encode("latin-1")).hexdigest()
    to_sign = f"AWS4-HMAC-SHA256\n{stamps[0]}\n{day}/{region}/{service}/aws4_request\n{hashed}"
    key = f"AWS4{account.secret_access_key}".encode()
    for part in (day, region, service, "aws4_request", to_sign):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return "" if hmac.compare_digest(key.hex(), signature) else "SignatureDoesNotMatch"


def _path(path: str, *, is_object: bool) -> str:
    if is_object:
        decoded = [urllib.parse.unquote_to_bytes(segment) for segment in path.split("/")]
        return "/".join(urllib.parse.quote(segment, safe="") for segment in decoded)
    while "//" in path:
        path = path.replace("//", "/")
    return "/".join(urllib.parse.quote(segment, safe="") for segment in path.split("/"))


def _query(query: str) -> str:
    pairs = urllib.parse.parse_qsl(query, keep_blank_values=True, encoding="latin-1")
    spelled = sorted(
        (urllib.parse.quote(name, safe="", encoding="latin-1"), urllib.parse.quote(value, safe="", encoding="latin-1"))
        for name, value in pairs
    )
    return "&".join(f"{name}={value}" for name, value in spelled)
