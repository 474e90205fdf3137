"""AWS Signature Version 4 of one POST, as STS wants it. The gateway signs the requests of sandboxes itself."""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from sallyport.secret import Secret

_ALGORITHM: Final = "AWS4-HMAC-SHA256"


class Scope(NamedTuple):
    """For which service, where, and when."""

    region: str
    service: str
    at: float


def signed_headers(
    url: str, headers: Mapping[str, str], body: bytes, scope: Scope, *, access_key_id: str, secret: Secret
) -> dict[str, str]:
    """Return the header fields of a signed POST to a URL without a query; `headers` are signed too."""
    at = datetime.fromtimestamp(int(scope.at), UTC).strftime("%Y%m%dT%H%M%SZ")
    parts = urlsplit(url)
    fields = {name.lower(): value.strip() for name, value in headers.items()} | {"host": parts.netloc, "x-amz-date": at}
    names = ";".join(sorted(fields))
    lines = "".join(f"{name}:{fields[name]}\n" for name in sorted(fields))
    request = "\n".join(("POST", parts.path or "/", "", lines, names, hashlib.sha256(body).hexdigest()))
    place = f"{at[:8]}/{scope.region}/{scope.service}/aws4_request"
    to_sign = "\n".join((_ALGORITHM, at, place, hashlib.sha256(request.encode()).hexdigest()))
    key = b"AWS4" + secret.reveal()
    for part in place.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    authorization = f"{_ALGORITHM} Credential={access_key_id}/{place}, SignedHeaders={names}, Signature={signature}"
    return {**headers, "X-Amz-Date": at, "Authorization": authorization}
