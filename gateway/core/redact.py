"""What is recorded of an exchange, written so that no secret is in it. Pure.

By construction first: the head that was sent is not searched for its credential but written once more, by the same
upstream_head, from an injection whose secret is the word REDACTED. Fields in which programs carry secrets of their
own are masked by name. Then the scrubber's needles are run over all of it as a net, as over any answer.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from gateway.core.aws_keys import AwsKeys
from gateway.core.credential_cache import Credential
from gateway.core.inject.aws_sigv4 import presigned_names
from gateway.core.inject.prepare import Injection
from gateway.core.inject.query import strip_query, with_pair
from gateway.core.route_table import AUTH_SLOTS, OVERRIDES, InjectRoute, RouteTable, RouteUpstream
from gateway.core.scrub import Needles, Scrubber
from gateway.core.upstream_head import upstream_head
from sallyport.secret import Secret
from sallyport.wire.http1.head import RequestHead
from sallyport.wire.http1.scan import CRLF
from sallyport.wire.http1.shape import field_name

MARKER: Final = b"REDACTED"
# An injection in use is masked once. As many as there are hot routes; then it starts over.
MAX_MASKS: Final = 256

_ANSWER_SECRETS: Final = frozenset({b"set-cookie"})


class SentHead(NamedTuple):
    """What upstream_head was called with for the head that was sent."""

    table: RouteTable
    injection: Injection | None
    head: RequestHead
    upstream: RouteUpstream
    path: bytes
    query: bytes | None
    upgrade: bytes | None


class RawBody(NamedTuple):
    """The beginning of a body as it passed, and how long all of it was; is_whole says that it ended as it should."""

    kept: bytes
    size_bytes: int
    is_whole: bool


class RawExchange(NamedTuple):
    """What was seen of an exchange, secrets and all. Never printed.

    received is the request's head as it came, answer the answer's as it went down or b"", both with their first line.
    """

    received: bytes
    route: InjectRoute | None
    sent: SentHead | None
    answer: bytes
    request_body: RawBody
    answer_body: RawBody

    def __repr__(self) -> str:
        return "<RawExchange>"


class _Mask(NamedTuple):
    injection: Injection
    needles: Needles
    own_lines: frozenset[bytes]


class Redactor:
    """Write exchanges down without their secrets. It holds secrets, to look for them: drop it with the recording."""

    def __init__(self) -> None:
        self._masks: dict[Injection, _Mask] = {}

    def document(self, raw: RawExchange, max_body_bytes: int) -> dict[str, object]:
        """Return the members of a recording that speak of heads and bodies."""
        sent, route = raw.sent, raw.route
        mask = None
        if sent is not None and sent.injection is not None and route is not None:
            mask = self._mask(route, sent.injection)
        needles = None if mask is None else mask.needles
        members: dict[str, object] = {"received": _received(raw.received, route, needles)}
        if sent is not None:
            members["sent"] = _sent(sent, mask)
        is_blind = needles is not None and needles.too_short
        if raw.answer:
            # A secret too short to be looked for may stand anywhere in an answer: only its status is told.
            members["answer"] = _answer(raw.answer, needles, hides_fields=is_blind)
        for name, body, head in (
            ("requestBody", raw.request_body, raw.received),
            ("answerBody", raw.answer_body, raw.answer),
        ):
            if body.size_bytes:
                reason = _why_omitted(head, needles)
                members[name] = _body(body, needles, max_body_bytes) if reason is None else _omitted(body, reason)
        return members

    def _mask(self, route: InjectRoute, injection: Injection) -> _Mask:
        mask = self._masks.get(injection)
        if mask is None:
            placeholder = [Credential(_marked(used.value), None, "redacted") for _, used in injection.made_of]
            masked = Injection(route, placeholder, scrub=injection.needles is not None)
            needles = injection.needles or Needles.of(*(each for _, used in injection.made_of for each in used.secrets))
            mask = _Mask(masked, needles, frozenset(masked.block.split(CRLF)))
            if len(self._masks) >= MAX_MASKS:
                self._masks.clear()
            self._masks[injection] = mask
        return mask

    def __repr__(self) -> str:
        return f"<Redactor: {len(self._masks)} injections>"


def _marked(value: Secret | AwsKeys) -> Secret | AwsKeys:
    return Secret(MARKER) if isinstance(value, Secret) else AwsKeys("REDACTED", Secret(MARKER), None)


# ---- heads


def _received(head: bytes, route: InjectRoute | None, needles: Needles | None) -> Mapping[str, object]:
    """The head as it came, less what was for the gateway alone (Proxy-*, the token among them; Sallyport-*)."""
    first, *lines = _scrubbed(head, needles).split(CRLF)
    hidden = AUTH_SLOTS if route is None else AUTH_SLOTS | (route.removed - OVERRIDES)
    target = first.split(b" ")[1]
    if route is not None:
        signature = presigned_names(target.partition(b"?")[2]) if route.is_signed else frozenset()
        target = _mask_query(target, route.strip_query | signature)
    lines = [line for line in lines if not field_name(line).startswith((b"proxy-", b"sallyport-"))]
    return {"target": _text(target), "fields": _fields(lines, hidden)}


def _mask_query(target: bytes, parameters: frozenset[str]) -> bytes:
    """Mask what the sandbox wrote where the credential goes; what is masked moves to the end."""
    path, question, query = target.partition(b"?")
    for parameter in sorted(parameters):
        kept = strip_query(query, frozenset({parameter}))
        if kept != query:
            query = with_pair(kept, parameter.encode("utf-8") + b"=" + MARKER)
    return path + question + query


def _sent(sent: SentHead, mask: _Mask | None) -> Mapping[str, object]:
    injection = None if mask is None else mask.injection
    block = upstream_head(*sent._replace(injection=injection))
    first, *lines = _scrubbed(block, None if mask is None else mask.needles)[: -2 * len(CRLF)].split(CRLF)
    own = frozenset[bytes]() if mask is None else mask.own_lines
    return {
        "scheme": sent.upstream.destination.scheme,
        "target": _text(first.split(b" ")[1]),
        "fields": _fields(lines, AUTH_SLOTS, own),
    }


def _answer(block: bytes, needles: Needles | None, *, hides_fields: bool) -> Mapping[str, object]:
    first, *lines = _scrubbed(block, needles).rstrip(CRLF).split(CRLF)
    _, status, reason = (first + b"  ").split(b" ", 2)
    if hides_fields:
        return {"status": int(status), "reason": "", "fields": []}
    return {"status": int(status), "reason": _text(reason.strip()), "fields": _fields(lines, _ANSWER_SECRETS)}


def _scrubbed(block: bytes, needles: Needles | None) -> bytes:
    return block if needles is None else Scrubber(needles).scrub_head(block)


def _fields(
    lines: Iterable[bytes], hidden: frozenset[bytes], own: frozenset[bytes] = frozenset()
) -> Sequence[tuple[str, str]]:
    """Return names and values; hidden ones are masked, save in the lines that are our own."""
    fields = []
    for line in lines:
        name, _, value = line.partition(b":")
        is_masked = field_name(name) in hidden and line not in own
        fields.append((_text(name), _text(MARKER if is_masked else value.strip(b" \t"))))
    return fields


def _text(value: bytes) -> str:
    return value.decode("latin-1")


# ---- bodies


def _why_omitted(head: bytes, needles: Needles | None) -> str | None:
    """Say why a body of an injected exchange cannot be searched, and so is not recorded."""
    if needles is None:
        return None
    if needles.too_short:
        return "the credential is too short to be looked for"
    for line in head.split(CRLF)[1:]:
        name, _, value = line.partition(b":")
        if field_name(name) == b"content-encoding" and value.strip(b" \t").lower() != b"identity":
            return "it is coded and cannot be searched for the credential"
    return None


def _omitted(body: RawBody, reason: str) -> Mapping[str, object]:
    return {"sizeBytes": body.size_bytes, "omitted": reason}


def _body(body: RawBody, needles: Needles | None, max_body_bytes: int) -> Mapping[str, object]:
    data = body.kept[:max_body_bytes]
    is_whole = body.is_whole and len(data) == body.size_bytes
    if needles is not None:
        scrubber = Scrubber(needles)
        # Where a body was cut, the cut may stand in the middle of a secret: what could begin one is left out.
        data = scrubber.feed(data) + (scrubber.finish() if is_whole else b"")
    document: dict[str, object] = {"sizeBytes": body.size_bytes}
    try:
        document["text"] = data.decode("utf-8")
    except UnicodeDecodeError:
        document["base64"] = base64.b64encode(data).decode("ascii")
    if not is_whole:
        document["truncated"] = True
    return document
