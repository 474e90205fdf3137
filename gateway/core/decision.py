"""What is decided about a request: the closed unions that admit and classify return."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from gateway.core.route_table import InjectRoute, RouteUpstream
from sallyport.problem import Code


class Mode(Enum):
    """How a stream's bytes are treated; the value is its word in audit records."""

    INTERCEPTED = "intercepted"
    PLAIN = "plain"
    PASSTHROUGH = "passthrough"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deny:
    """Refuse, and say why in words an agent can act on."""

    code: Code
    detail: str
    rule_id: str | None = None
    hint: str | None = None
    nearest: Mapping[str, object] | None = None
    retry_after_seconds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """Send on as it is, without a credential."""

    rule_id: str | None = None


type Admission = Mode | Deny
type Decision = InjectRoute | Forward | Deny

FORWARD = Forward()


class Classified(NamedTuple):
    """A decision, the path it was made on (and which is sent), and where the request goes; None where it is denied."""

    decision: Decision
    path: bytes
    upstream: RouteUpstream | None
