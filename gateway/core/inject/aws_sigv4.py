"""AWS Signature Version 4 of a request whose head is written: what is signed is what is sent. Pure.

The canonical request is that of "Create a signed AWS API request" in AWS's documentation. Signed are Host, Content-Type
and every X-Amz-* field: what others may change on the way is not, and nobody asks for more. What the sandbox signed
with keys of its own was removed before (C1): the fields with the other auth slots, the parameters by without_presigned.
"""

import hashlib
import hmac
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final, NamedTuple

from gateway.core.authority import Refused
from gateway.core.aws_keys import AwsKeys
from gateway.core.errors import payload_signed_in_parts, too_many_segments
from gateway.core.inject.query import check_parameters, strip_query, unescaped
from sallyport.plan.model import AwsSigv4Injection
from sallyport.secret import Secret
from sallyport.wire.http1.head import RequestHead
from sallyport.wire.http1.scan import CRLF

ALGORITHM: Final = b"AWS4-HMAC-SHA256"
UNSIGNED: Final = b"UNSIGNED-PAYLOAD"
# A body in chunks with a checksum behind them and no signature in them: it can pass as it is.
UNSIGNED_CHUNKS: Final = b"STREAMING-UNSIGNED-PAYLOAD-TRAILER"
EMPTY_HASH: Final = hashlib.sha256(b"").hexdigest().encode("ascii")

# Their paths are keys of objects: encoded once, and nothing in them is normal or not.
_OBJECT_STORES: Final = frozenset({"s3", "s3-outposts", "s3-object-lambda"})
# A key of an object store has at most 1,024 bytes.
MAX_SEGMENTS: Final = 1024
_PAYLOAD_FIELD: Final = b"x-amz-content-sha256"
_HASH: Final = re.compile(rb"[0-9A-Fa-f]{64}")
_AMZ: Final = b"x-amz-"
_SLASHES: Final = re.compile(rb"/{2,}")
_UNRESERVED: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
_SPELLINGS: Final = [bytes([byte]) if byte in _UNRESERVED else b"%%%02X" % byte for byte in range(256)]


class Payload(NamedTuple):
    """How a signature speaks of the body: its SHA-256 in hex, or a word; is_told says that the request told it."""

    text: bytes
    is_told: bool


def declared_payload(head: RequestHead) -> Payload | None:
    """Return what the request says of its body itself; None where the body must be read for it. Raises Refused.

    It is believed: the service compares it with what it receives.
    """
    told = {
        line.partition(b":")[2].strip(b" \t")
        for line, name in zip(head.lines, head.names, strict=True)
        if name == _PAYLOAD_FIELD
    }
    if not told:
        return Payload(EMPTY_HASH, is_told=False) if head.body == 0 else None
    text = told.pop()
    if not told and (text in (UNSIGNED, UNSIGNED_CHUNKS) or _HASH.fullmatch(text) is not None):
        return Payload(text if text in (UNSIGNED, UNSIGNED_CHUNKS) else text.lower(), is_told=True)
    raise Refused(payload_signed_in_parts())


def presigned_names(query: bytes) -> frozenset[str]:
    """Return the parameters by which a URL carries a signature, as they are spelled in it."""
    names = {_decoded(name) for name, _ in _pairs(query, b"[&;]")}
    return frozenset(name.decode("utf-8", "replace") for name in names if name.lower().startswith(_AMZ))


def without_presigned(query: bytes | None) -> bytes | None:
    """Take a signature of the sandbox's own out of a query; the rest stays byte for byte. Raises Refused."""
    if not query:
        return query
    check_parameters(query)
    names = presigned_names(query)
    return (strip_query(query, names) or None) if names else query


class Signer:
    """Signs for one region and service with one version of a credential. It holds secrets: it is never printed.

    The key of a day is made on that day's first request.
    """

    __slots__ = ("_access_key_id", "_day", "_is_object_store", "_key", "_region", "_secret", "_service", "_token_line")

    def __init__(self, injection: AwsSigv4Injection, keys: AwsKeys) -> None:
        self._region = injection.region.encode("ascii")
        self._service = injection.service.encode("ascii")
        self._is_object_store = injection.service in _OBJECT_STORES
        self._access_key_id = keys.access_key_id.encode("ascii")
        self._secret: Secret = keys.secret_access_key
        token = keys.session_token
        self._token_line = b"" if token is None else b"X-Amz-Security-Token: %b\r\n" % token.reveal()
        self._day = self._key = b""

    def sign(self, block: bytes, payload: Payload, at: float) -> bytes:
        """Return a whole head with its signature of the instant `at` (unix seconds); raises Refused."""
        stamp = datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ").encode("ascii")
        added = b"X-Amz-Date: %b\r\n%b" % (stamp, self._token_line)
        if self._is_object_store or payload.is_told:
            added += b"X-Amz-Content-Sha256: %b\r\n" % payload.text
        unsigned = block[: -len(CRLF)] + added
        request, names = self._canonical_request(unsigned, payload.text)
        scope = b"/".join((stamp[:8], self._region, self._service, b"aws4_request"))
        digest = hashlib.sha256(request).hexdigest().encode("ascii")
        to_sign = b"\n".join((ALGORITHM, stamp, scope, digest))
        signature = _mac(self._day_key(stamp[:8]), to_sign).hex().encode("ascii")
        return b"%bAuthorization: %b Credential=%b/%b, SignedHeaders=%b, Signature=%b\r\n\r\n" % (
            unsigned,
            ALGORITHM,
            self._access_key_id,
            scope,
            names,
            signature,
        )

    def _canonical_request(self, unsigned: bytes, payload: bytes) -> tuple[bytes, bytes]:
        first, *lines = unsigned[: -len(CRLF)].split(CRLF)
        method, target, _ = first.split(b" ")
        path, _, query = target.partition(b"?")
        if path.count(b"/") > MAX_SEGMENTS:
            raise Refused(too_many_segments(MAX_SEGMENTS))
        fields, names = _canonical_fields(lines)
        spelled = _object_path(path) if self._is_object_store else _normal_path(path)
        return b"\n".join((method, spelled, _canonical_query(query), fields, names, payload)), names

    def _day_key(self, day: bytes) -> bytes:
        if self._day != day:
            key = b"AWS4" + self._secret.reveal()
            for part in (day, self._region, self._service, b"aws4_request"):
                key = _mac(key, part)
            self._day, self._key = day, key
        return self._key

    def __repr__(self) -> str:
        return "<Signer>"


def _mac(key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, text, "sha256")


def _canonical_fields(lines: list[bytes]) -> tuple[bytes, bytes]:
    """Return the signed fields, each with its line end, and their names."""
    values: dict[bytes, list[bytes]] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name in (b"host", b"content-type") or name.startswith(_AMZ):
            values.setdefault(name, []).append(b" ".join(value.split()))
    names = sorted(values)
    return b"".join(b"%b:%b\n" % (name, b",".join(values[name])) for name in names), b";".join(names)


def _object_path(path: bytes) -> bytes:
    """Encode each segment once, whatever of it was encoded already; `%2F` is part of one."""
    return b"/".join(_encoded(unescaped(segment)) for segment in path.split(b"/"))


def _normal_path(path: bytes) -> bytes:
    """Encode the path as it is sent, and so its `%` too, with runs of slashes as one. Dot segments never get here."""
    return _encoded(_SLASHES.sub(b"/", path)).replace(b"%2F", b"/")


def _canonical_query(query: bytes) -> bytes:
    pairs = sorted((_recoded(name), _recoded(value)) for name, value in _pairs(query, b"&"))
    return b"&".join(b"%b=%b" % pair for pair in pairs)


def _pairs(query: bytes, separators: bytes) -> Iterator[tuple[bytes, bytes]]:
    for piece in re.split(separators, query):
        if piece:
            name, _, value = piece.partition(b"=")
            yield name, value


def _recoded(text: bytes) -> bytes:
    return _encoded(_decoded(text))


def _decoded(text: bytes) -> bytes:
    """Read a part of a query as AWS does, with `+` as a space."""
    return unescaped(text.replace(b"+", b" "))


def _encoded(text: bytes) -> bytes:
    return b"".join([_SPELLINGS[byte] for byte in text])
