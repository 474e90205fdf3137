"""Answers the gateway makes itself, as bytes (contracts section 9)."""

from gateway.core.decision import Deny
from gateway.core.request_limit import Excess
from sallyport.problem import Code, Problem
from sallyport.wire.http1.answers import problem_answer

# What the sandbox is told where no link was had; the cause is in the log (style rule 13).
_UPSTREAM_DETAILS = {
    Code.ADDRESS_REFUSED: "the destination's address is not one the gateway connects to",
    Code.UPSTREAM_UNREACHABLE: "the destination could not be reached",
    Code.UPSTREAM_TIMEOUT: "the destination did not accept a connection in time",
    Code.OVERLOADED: "the gateway can open no more links at the moment, to this destination or at all",
}


def no_plan() -> Deny:
    """No plan is in force for the sandbox."""
    return Deny(
        code=Code.PLAN_UNAVAILABLE,
        detail="no plan is loaded for this sandbox",
        hint="the control plane, or the gateway's `plans`, must provide one",
        retry_after_seconds=5,
    )


def sandbox_is_full() -> Deny:
    """The limit on the open streams of one sandbox."""
    return Deny(code=Code.OVERLOADED, detail="the sandbox has as many streams as it may", retry_after_seconds=1)


def gateway_is_full() -> Deny:
    """The limit on the open streams of all sandboxes."""
    return Deny(code=Code.OVERLOADED, detail="the gateway has as many streams as it may", retry_after_seconds=1)


def memory_is_full() -> Deny:
    """The limit on the memory of the process."""
    return Deny(code=Code.OVERLOADED, detail="the gateway holds as much memory as it may", retry_after_seconds=1)


def kept_bodies_are_full() -> Deny:
    """The limit on what is kept of bodies that are to be signed: the sandbox's, or that of the process."""
    return Deny(
        code=Code.OVERLOADED,
        detail="as many request bodies wait to be signed as may",
        hint="send x-amz-content-sha256, and the body need not be kept",
        retry_after_seconds=1,
    )


def unauthenticated(detail: str) -> Deny:
    """There is no good proxy token (407)."""
    return Deny(
        code=Code.PROXY_AUTHENTICATION_REQUIRED,
        detail=detail,
        hint="send the sandbox's token as the password of the proxy URL, or as Proxy-Authorization: Bearer",
    )


def of_another_organization() -> Deny:
    """The plan of the token's sandbox is another organization's: the id was given twice, or the sandbox moved."""
    return unauthenticated("the token is not of the organization that the sandbox's plan is of")


def body_too_large(limit: int, route_limit: int | None) -> Deny:
    """The limit on request bodies: the route's own, or the gateway's where the route has none or a higher one."""
    if limit == route_limit:
        detail, hint = f"the route accepts request bodies up to {limit} bytes", "the plan sets maxRequestBodyBytes"
    else:
        detail = f"the gateway accepts request bodies up to {limit} bytes"
        hint = "the gateway's operator sets limits.request_body_bytes"
    return Deny(code=Code.BODY_TOO_LARGE, detail=detail, hint=hint)


def signed_body_too_large(limit: int) -> Deny:
    """The limit on bodies that are kept to be signed."""
    return Deny(
        code=Code.BODY_TOO_LARGE,
        detail=f"the route signs request bodies up to {limit} bytes where their hash is not told",
        hint="send x-amz-content-sha256 (UNSIGNED-PAYLOAD where the service takes it); or the gateway's operator"
        " sets limits.signed_body_bytes",
    )


def body_not_kept(rule_id: str | None) -> Deny:
    """Inside mitmproxy a request is decided before its body is read."""
    return Deny(
        code=Code.INVALID_REQUEST,
        detail="the request is to be signed and does not tell its body's hash",
        rule_id=rule_id,
        hint="send x-amz-content-sha256; the gateway itself, unlike its mitmproxy addon, keeps the body for it",
    )


def payload_signed_in_parts() -> Deny:
    """What the request says of its body is nothing that another key could sign."""
    return Deny(
        code=Code.INVALID_REQUEST,
        detail="x-amz-content-sha256 is not one hash, UNSIGNED-PAYLOAD or STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        hint="chunks that are signed one by one cannot be signed anew: switch chunked signing off in the client",
    )


def too_many_parameters(limit: int) -> Deny:
    """The route writes, strips or signs query parameters, and each has to be looked at."""
    return Deny(
        code=Code.INVALID_REQUEST,
        detail=f"the query has more than {limit} parameters, and this route looks at each",
        hint="send fewer, or send them in a body",
    )


def too_many_escapes(limit: int) -> Deny:
    """The route writes, strips or signs query parameters, and the name of each has to be read."""
    return Deny(
        code=Code.INVALID_REQUEST,
        detail=f"the names in the query have more than {limit} '%', and this route reads each",
        hint="write in a name what may stand there as itself, or send fewer parameters",
    )


def too_many_segments(limit: int) -> Deny:
    """The route signs paths, segment by segment."""
    return Deny(
        code=Code.INVALID_REQUEST,
        detail=f"the path has more than {limit} segments, and this route signs each",
        hint="no service that takes such a signature has paths like that",
    )


def rate_limited(excess: Excess, rule_id: str) -> Deny:
    """The route's own limit on requests a minute, or at once."""
    return Deny(
        code=Code.RATE_LIMITED,
        detail="the route's limit on requests is reached",
        rule_id=rule_id,
        hint=f"the plan sets {'maxConcurrent' if excess.at_once else 'requestsPerMinute'} of this route",
        retry_after_seconds=excess.retry_after_seconds,
    )


def sandbox_rate_limited(excess: Excess) -> Deny:
    """The operator's limit on one sandbox's requests a minute, or at once."""
    name = "sandbox_concurrent_requests" if excess.at_once else "sandbox_requests_per_minute"
    return Deny(
        code=Code.RATE_LIMITED,
        detail="the sandbox's limit on requests is reached, whatever they ask for",
        hint=f"the gateway's operator sets limits.{name}",
        retry_after_seconds=excess.retry_after_seconds,
    )


def placeholder_left(rule_id: str | None) -> Deny:
    """A placeholder would have left unresolved (C5)."""
    return Deny(
        code=Code.CREDENTIAL_UNAVAILABLE,
        detail="the request still holds a placeholder that its route does not replace",
        rule_id=rule_id,
        hint="a placeholder works only on the routes and in the parts that its plan names",
    )


def credential_missing(word: str, temporary: bool, retry_after_seconds: int, rule_id: str | None) -> Deny:
    """There is no credential; word is one of contracts section 4."""
    if temporary:
        return Deny(
            code=Code.CREDENTIAL_TEMPORARILY_UNAVAILABLE,
            detail=f"the credential of this route cannot be had now ({word})",
            rule_id=rule_id,
            retry_after_seconds=max(1, retry_after_seconds),
        )
    return Deny(
        code=Code.CREDENTIAL_UNAVAILABLE,
        detail=f"the credential of this route cannot be had ({word})",
        rule_id=rule_id,
        hint="the integration's connection must be repaired by its owner; trying again will not help",
    )


def upstream_failed(code: Code, rule_id: str | None) -> Deny:
    """No link could be had."""
    retry_after = 1 if code is Code.OVERLOADED else None
    return Deny(code=code, detail=_UPSTREAM_DETAILS[code], rule_id=rule_id, retry_after_seconds=retry_after)


def answer_not_whole(rule_id: str | None) -> Deny:
    """The link ended before the answer did."""
    detail = "the upstream closed the link before its answer was whole"
    return Deny(code=Code.UPSTREAM_UNREACHABLE, detail=detail, rule_id=rule_id)


def answer_not_http(rule_id: str | None) -> Deny:
    """The answer is malformed."""
    detail = "the upstream's answer is not valid HTTP/1.1"
    return Deny(code=Code.UPSTREAM_PROTOCOL_ERROR, detail=detail, rule_id=rule_id)


def answer_unreadable(rule_id: str | None) -> Deny:
    """The answer cannot be searched for the credential."""
    return Deny(
        code=Code.UPSTREAM_PROTOCOL_ERROR,
        detail="the upstream's answer has a content coding although none was asked for",
        rule_id=rule_id,
        hint="the gateway's operator lets such answers pass with scrub.unscannable",
    )


def answer_late(rule_id: str | None) -> Deny:
    """The answer made no progress in time."""
    return Deny(
        code=Code.UPSTREAM_TIMEOUT,
        detail="the upstream did not answer in time",
        rule_id=rule_id,
        hint="the gateway's operator sets the time (timeouts.answer_head, timeouts.answer_body)",
    )


def refusal(deny: Deny, request_id: str, *, method: str, close: bool) -> bytes:
    """Write a whole answer: problem+json with the codes an agent can act on."""
    problem = Problem(
        code=deny.code,
        detail=deny.detail,
        request_id=request_id,
        egress_rule_id=deny.rule_id,
        nearest=deny.nearest,
        hint=deny.hint,
        retry_after_seconds=deny.retry_after_seconds,
    )
    return problem_answer(problem, method=method, close=close)
