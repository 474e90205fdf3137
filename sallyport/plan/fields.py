"""What all models of a plan share, and the types of their fields, each with the message of its refusal.

Lengths are bounds against a runaway document, far above anything real; RFC 9110 gives the grammar of tokens.
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WrapSerializer,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from sallyport.destination import Destination
from sallyport.host import HostError, HostPattern, HostPatternKind, parse_host_pattern
from sallyport.plan.issue_codes import IssueCode
from sallyport.plan.url import Url, UrlError, split_url
from sallyport.request_path import PathError, canonical_path

Item = TypeVar("Item")
Key = TypeVar("Key")
Value = TypeVar("Value")

MIN_PLACEHOLDER_BYTES = 8  # a shorter one turns up in requests by accident
MAX_LISTED = 1_000  # items of one list; routes have the same bound by contract
MAX_TIMEOUT_MS = 86_400_000  # a day

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_FIELD_VALUE = re.compile(r"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")
_FIELD_VALUE_PREFIX = re.compile(r"[!-~\x80-\xff][\t -~\x80-\xff]*")

# Names the gateway writes, removes or frames by itself (RFC 9110 section 7.6.1, RFC 9112): injecting one of them
# would change where a request ends or where it goes.
_RESERVED_HEADERS = frozenset(
    (
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
_RESERVED_PREFIXES = ("proxy-", "sallyport-")


class Model(BaseModel):
    """What every object of a plan has in common: no unknown field, no coercion, no change afterwards."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, alias_generator=to_camel, hide_input_in_errors=True
    )


def refusal(code: IssueCode, message: str) -> PydanticCustomError:
    """Build the error that reports `message` under `code` at the field being validated."""
    return PydanticCustomError(code.value, "{message}", {"message": message})


def _check_header_name(name: str) -> str:
    if _TOKEN.fullmatch(name) is None:
        raise refusal(IssueCode.INVALID_HEADER_NAME, "a header name is a token (RFC 9110 section 5.1)")
    return name


def _check_injected_header(name: str) -> str:
    lowered = _check_header_name(name).lower()
    if lowered in _RESERVED_HEADERS or lowered.startswith(_RESERVED_PREFIXES):
        raise refusal(IssueCode.RESERVED_HEADER, "framing, hop-by-hop, Host and Proxy-* headers cannot be injected")
    return name


def _check_header_value(value: str) -> str:
    if _FIELD_VALUE.fullmatch(value) is None:
        raise refusal(
            IssueCode.INVALID_HEADER_VALUE,
            "a header value is latin-1 without control characters and without white space at its ends",
        )
    return value


def _check_header_prefix(value: str) -> str:
    if _FIELD_VALUE_PREFIX.fullmatch(value) is None:
        raise refusal(
            IssueCode.INVALID_HEADER_VALUE, "a prefix is latin-1 without control characters and begins visibly"
        )
    return value


def _check_method(method: str) -> str:
    if _TOKEN.fullmatch(method) is None:
        raise refusal(IssueCode.MALFORMED, "a method is a token (RFC 9110 section 9.1)")
    return method


def _read_host_pattern(text: object) -> object:
    if not isinstance(text, str):
        raise refusal(IssueCode.WRONG_TYPE, "a string is expected")
    try:
        return parse_host_pattern(text)
    except HostError as error:
        raise refusal(IssueCode.INVALID_HOST_PATTERN, str(error)) from None


def _refuse_lone_wildcard(pattern: HostPattern) -> HostPattern:
    if pattern.kind is HostPatternKind.ANY:
        raise refusal(IssueCode.LONE_WILDCARD, "'*' alone never receives a credential and stands in egress.rules only")
    return pattern


def _check_path_prefix(prefix: str) -> str:
    try:
        canonical = canonical_path(prefix.encode("utf-8", "surrogatepass"))
    except PathError as error:
        raise refusal(IssueCode.INVALID_PATH_PREFIX, error.hint) from None
    if canonical != prefix:
        raise refusal(
            IssueCode.INVALID_PATH_PREFIX,
            "a prefix is written in canonical form: unreserved characters decoded, hex digits in upper case",
        )
    if prefix != "/" and prefix.endswith("/"):
        raise refusal(
            IssueCode.INVALID_PATH_PREFIX, "a prefix does not end in '/': it claims whole segments without one"
        )
    return prefix


def _read_url(text: str) -> Url:
    try:
        return split_url(text)
    except UrlError as error:
        raise refusal(IssueCode.INVALID_URL, str(error)) from None


def read_base_url(text: str) -> Destination:
    """Read an upstream's baseUrl: a scheme, a host and perhaps a port, nothing behind them."""
    url = _read_url(text)
    if url.path or url.query is not None:
        raise refusal(IssueCode.INVALID_URL, "a baseUrl ends after host and port: no path, not even '/', and no query")
    if not text.lower().startswith("http"):
        raise refusal(IssueCode.INVALID_URL, "the scheme of a baseUrl is http or https")
    return url.destination


def _check_base_url(text: str) -> str:
    read_base_url(text)
    return text


def _check_url_of(*schemes: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        _read_url(text)
        if text.partition("://")[0].lower() not in schemes:
            raise refusal(IssueCode.INVALID_URL, f"the scheme is one of: {', '.join(schemes)}")
        return text

    return check


# Lists and maps. A JSON array arrives as a Python list, which strict mode would refuse for a tuple, so the container
# alone is read leniently; its items stay strict. Tuples and read-only maps keep a plan immutable all the way down.
Listed = Annotated[tuple[Item, ...], Field(strict=False, max_length=MAX_LISTED)]
NonEmpty = Annotated[tuple[Item, ...], Field(strict=False, min_length=1, max_length=MAX_LISTED)]
# pydantic writes no read-only map by itself.
Map = Annotated[
    Mapping[Key, Value],
    Field(max_length=MAX_LISTED),
    AfterValidator(MappingProxyType),
    WrapSerializer(lambda value, write: write(dict(value))),
]

# Text. NUL ends a string for the operating system, so no text that reaches it may hold one.
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1F\x7F]{1,1024}$")]
Content = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
Argument = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$", max_length=131_072)]  # Linux MAX_ARG_STRLEN
FilePath = Annotated[str, StringConstraints(pattern=r"^[^\x00]{1,4096}$")]
VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,255}$")]

# Ids never hold "/": they are joined by it in URLs and in the names of credentials.
Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")]
SandboxId = Annotated[str, StringConstraints(pattern=r"^sbx_[A-Za-z0-9_-]{1,124}$")]
ConnectionId = Annotated[str, StringConstraints(pattern=r"^con_[A-Za-z0-9_-]{1,124}$")]
BindingId = Annotated[str, StringConstraints(pattern=r"^bnd_[A-Za-z0-9_-]{1,124}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Port = Annotated[int, Field(ge=1, le=65535)]
FileMode = Annotated[int, Field(ge=0, le=0o7777)]
Status = Annotated[int, Field(ge=100, le=599)]
TimeoutMs = Annotated[int, Field(ge=1, le=MAX_TIMEOUT_MS)]

HeaderName = Annotated[str, AfterValidator(_check_header_name)]
InjectedHeader = Annotated[str, AfterValidator(_check_injected_header)]
HeaderValue = Annotated[str, AfterValidator(_check_header_value)]
HeaderPrefix = Annotated[str, AfterValidator(_check_header_prefix)]
Method = Annotated[str, AfterValidator(_check_method)]
PathPrefix = Annotated[str, AfterValidator(_check_path_prefix)]
RuleHost = Annotated[HostPattern, BeforeValidator(_read_host_pattern)]
RouteHost = Annotated[HostPattern, BeforeValidator(_read_host_pattern), AfterValidator(_refuse_lone_wildcard)]
PlaceholderValue = Annotated[str, StringConstraints(pattern=rf"^[!-~]{{{MIN_PLACEHOLDER_BYTES},512}}$")]
UserName = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1F\x7F:]{1,256}$")]
ServiceName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,64}$")]

BaseUrl = Annotated[str, AfterValidator(_check_base_url)]
HttpUrl = Annotated[str, AfterValidator(_check_url_of("http", "https"))]
WebSocketUrl = Annotated[str, AfterValidator(_check_url_of("ws", "wss"))]
