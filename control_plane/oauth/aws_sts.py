"""Sessions of an assumed role (AWS STS AssumeRole, Query API 2011-06-15)."""

import json
from datetime import datetime
from typing import Final
from urllib.parse import urlencode
from xml.etree import ElementTree

from control_plane.definitions.contract import AwsSession
from control_plane.oauth.provider_error import ProviderError, permanent, temporary
from control_plane.oauth.provider_session import Answer, Made, ProviderSession
from control_plane.oauth.sigv4 import Scope, signed_headers
from sallyport.secret import Secret

_NAMESPACE: Final = "{https://sts.amazonaws.com/doc/2011-06-15/}"
# What passes though its status is a 400 (AWS's list of common errors).
_PASSING: Final = frozenset({"Throttling", "ThrottlingException", "RequestExpired", "IDPCommunicationError"})
_KNOWN: Final = frozenset(
    {
        *("AccessDenied", "InvalidClientTokenId", "SignatureDoesNotMatch", "ExpiredToken", "MalformedPolicyDocument"),
        *("RegionDisabled", "ValidationError", "MissingAuthenticationToken", "OptInRequired", "PackedPolicyTooLarge"),
    }
)


async def ask_role_session(
    session: ProviderSession, now: float, *, source: AwsSession, access_key_id: Secret, secret: Secret
) -> Made:
    """Return the keys of a session of the source's role, as JSON; raises ProviderError."""
    assert source.role_arn is not None, "without a role there is nothing to ask"
    asked = {
        "Action": "AssumeRole",
        "Version": "2011-06-15",
        "RoleArn": source.role_arn,
        "RoleSessionName": source.session_name,
        "DurationSeconds": str(source.duration_seconds),
    }
    if source.external_id is not None:
        asked["ExternalId"] = source.external_id
    body = urlencode(asked).encode()
    headers = signed_headers(
        source.sts_url,
        {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
        body,
        Scope(source.region, "sts", now),
        access_key_id=access_key_id.reveal().decode("utf-8"),
        secret=secret,
    )
    answer = await session.post(source.sts_url, body, headers)
    if answer.status != 200:
        raise _refusal(answer)
    return _read(answer)


def _refusal(answer: Answer) -> ProviderError:
    code = _parse(answer).findtext(f".//{_NAMESPACE}Code")
    if answer.status not in (400, 403) or code in _PASSING or code is None:
        return temporary(f"the provider answered {answer.status}")
    return permanent(f"the provider refused: {code if code in _KNOWN else 'it gave another reason'}")


def _read(answer: Answer) -> Made:
    found = _parse(answer).find(f".//{_NAMESPACE}Credentials")
    names = ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")
    texts = [None if found is None else found.findtext(f"{_NAMESPACE}{name}") for name in names]
    given = [text for text in texts if text]
    if len(given) != len(names):
        raise temporary("the provider's answer holds no usable keys")
    access_key_id, secret, session_token, until = given
    try:
        expires_at = int(datetime.fromisoformat(until).timestamp())
    except ValueError:
        raise temporary("the provider's answer cannot be read") from None
    keys = {"accessKeyId": access_key_id, "secretAccessKey": secret, "sessionToken": session_token}
    return Made(Secret(json.dumps(keys).encode()), expires_at)


def _parse(answer: Answer) -> ElementTree.Element:
    try:
        # Entities can only be made where there is a document type, and an answer of AWS has none.
        if b"<!" in answer.body:
            raise temporary("the provider's answer cannot be read")
        return ElementTree.fromstring(answer.body)
    except ElementTree.ParseError:
        raise temporary("the provider's answer cannot be read") from None
