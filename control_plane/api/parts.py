"""What the routers act on, and the types of the arguments they share."""

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Path, Query, Request

from control_plane.authorities import Authorities
from control_plane.authorizations import AuthorizationDesk
from control_plane.bindings import BindingDesk
from control_plane.compilation import CompileDesk
from control_plane.connections import ConnectionDesk
from control_plane.definitions.registry import Registry
from control_plane.denials import DenialDesk
from control_plane.feed.keeping import FeedKeeper
from control_plane.feed.servers import ServerDesk
from control_plane.idempotency import Answers
from control_plane.keeper import CredentialKeeper
from control_plane.metrics import ControlMetrics
from control_plane.minting import TokenOffice
from control_plane.plans import PlanDesk
from control_plane.push.subscribers import PushSubscribers
from control_plane.rate_limits import RateLimits
from control_plane.refusals import ControlCode, FieldIssue, Refused
from control_plane.resolution import Resolver
from control_plane.signing import KeyRing
from control_plane.store.database import Database
from control_plane.targets import TargetDesk
from control_plane.watch import Watch
from control_plane.webhooks.endpoints import WebhookEndpoints
from control_plane.webhooks.ingest import Ingest
from control_plane.webhooks.outbox import Outbox
from control_plane.webhooks.subscriptions import WebhookSubscriptions
from control_plane.worker_caller import WorkerCaller
from control_plane.workers import Workers

# One page fits on a screen; a client that wants all asks again by cursor.
PAGE_DEFAULT: Final = 50
PAGE_MAX: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The logic behind the surface. now() is unix time."""

    database: Database
    metrics: ControlMetrics
    ring: KeyRing
    office: TokenOffice
    plans: PlanDesk
    registry: Registry
    bindings: BindingDesk
    compilation: CompileDesk
    targets: TargetDesk
    connections: ConnectionDesk
    authorizations: AuthorizationDesk
    keeper: CredentialKeeper
    resolver: Resolver
    authorities: Authorities
    denials: DenialDesk
    watch: Watch
    ingest: Ingest
    max_webhook_bytes: int
    webhook_endpoints: WebhookEndpoints
    webhook_subscriptions: WebhookSubscriptions
    outbox: Outbox
    workers: Workers
    push_subscribers: PushSubscribers
    worker_caller: WorkerCaller
    feed: FeedKeeper
    servers: ServerDesk
    rates: RateLimits
    answers: Answers
    public_url: str
    now: Callable[[], float]


def _parts(request: Request) -> Parts:
    parts = request.app.state.parts
    assert isinstance(parts, Parts)
    return parts


def encode_cursor(last_id: str) -> str:
    """Return the cursor of the page behind an id; opaque to clients."""
    return base64.urlsafe_b64encode(last_id.encode("ascii")).rstrip(b"=").decode("ascii")


def decode_cursor(cursor: str) -> str:
    """Return the id a cursor stands for; raise Refused."""
    try:
        decoded = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except (binascii.Error, ValueError):
        decoded = "\0"
    if not decoded.isprintable():
        issue = FieldIssue("malformed", "cursor", "give back the nextCursor of the page before, as it is")
        raise Refused(ControlCode.INVALID_REQUEST, "this is no cursor of ours", issues=[issue])
    return decoded


def page(items: Sequence[Mapping[str, object]], name: str, limit: int) -> dict[str, object]:
    """Return a page of up to `limit` items; `items` has one more where there is a next page."""
    shown = list(items[:limit])
    more = len(items) > limit
    return {"items": shown} | ({"nextCursor": encode_cursor(str(shown[-1][name]))} if more else {})


PartsOf = Annotated[Parts, Depends(_parts)]
CONNECTION_PATTERN: Final = r"^con_[A-Za-z0-9_-]{1,124}$"
SandboxPath = Annotated[str, Path(pattern=r"^sbx_[A-Za-z0-9_-]{1,124}$")]
ConnectionPath = Annotated[str, Path(pattern=CONNECTION_PATTERN)]
IdPath = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")]
NumberPath = Annotated[int, Path(ge=1, lt=2**53)]
Cursor = Annotated[str | None, Query(max_length=256)]
Limit = Annotated[int, Query(ge=1, le=PAGE_MAX)]
