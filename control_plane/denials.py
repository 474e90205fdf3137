"""What gateways denied a sandbox, asked of them when somebody looks (docs/decisions/0014).

Every gateway that lives is asked, those that hold the sandbox first: a sandbox whose last stream has ended is held by
nobody, and what it was denied is still where it was.
"""

import asyncio
from typing import Annotated, Any, Final

import structlog
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic.alias_generators import to_camel

from control_plane.outbound.checked_session import Unanswered
from control_plane.outbound.gateway_admin import GatewayAdmin
from control_plane.refusals import sandbox_not_found
from control_plane.signing import KeyRing
from control_plane.store import leases, sandboxes
from control_plane.store.database import Database
from control_plane.store.models import GatewayLease
from sallyport.claims import AUDIENCE_DENIALS
from sallyport.denial_cursor import MAX_PROCESSES, PATTERN, merge

PATH: Final = "/v1/denials"
# As long as a question takes, and some clock skew.
TOKEN_SECONDS: Final = 60
# Of a larger fleet the rest is said not to have been asked.
MAX_GATEWAYS: Final = MAX_PROCESSES

_log = structlog.get_logger(__name__)

Text = Annotated[str, Field(max_length=8_192)]


class Denial(BaseModel):
    """A denial as a gateway tells it. What a newer one says beside this is left out."""

    model_config = ConfigDict(
        extra="ignore", strict=True, frozen=True, alias_generator=to_camel, hide_input_in_errors=True
    )

    time: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")]
    request_id: Text | None = None
    organization_id: Text
    sandbox_id: Text
    source: Text
    mode: Text
    method: Text | None = None
    scheme: Text | None = None
    host: Text | None = None
    port: int | None = None
    path: Text | None = None
    egress_rule_id: Text | None = None
    plan_revision: int | None = None
    outcome: Text
    status: int | None = None
    code: Text
    retryable: bool
    detail: Text | None = None
    hint: Text | None = None
    nearest: dict[str, JsonValue] | None = None


class DenialList(BaseModel):
    """What a gateway answers."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, hide_input_in_errors=True)

    items: Annotated[list[Denial], Field(max_length=1_000)]
    next: Annotated[str, Field(pattern=f"^({PATTERN})$", max_length=64)]


class DenialDesk:
    """Asks."""

    def __init__(self, database: Database, admin: GatewayAdmin, ring: KeyRing) -> None:
        self._database = database
        self._admin = admin
        self._ring = ring

    async def of_sandbox(self, sandbox_id: str, cursor: str, limit: int, now: float) -> dict[str, object]:
        """Return the newest denials after a cursor, the oldest first, and which gateways have told. Raises Refused."""
        async with self._database.read() as tx:
            sandbox = await sandboxes.sandbox(tx, sandbox_id)
            if sandbox is None:
                raise sandbox_not_found()
            holders = {held.gateway_id for _, held in await leases.placement(tx, sandbox_id, now)}
            live = sorted(await leases.live(tx, now), key=lambda lease: lease.gateway_id not in holders)
        minted = await self._ring.mint(
            audience=AUDIENCE_DENIALS, subject="control-plane", ttl_seconds=TOKEN_SECONDS, now=now
        )
        query = {"sandboxId": sandbox_id, "limit": str(limit)} | ({"after": cursor} if cursor else {})
        asked = live[:MAX_GATEWAYS]
        async with asyncio.TaskGroup() as group:
            asking = [group.create_task(self._ask(lease, query, minted.token), name="denials") for lease in asked]
        answers = [task.result() for task in asking]
        items: list[dict[str, Any]] = [
            {"gatewayId": lease.gateway_id, **denial.model_dump(by_alias=True, exclude_none=True)}
            for lease, answer in zip(asked, answers, strict=True)
            if isinstance(answer, DenialList)
            for denial in answer.items
            # Ids are given once; whatever a gateway says, nothing of another organization is shown.
            if (denial.sandbox_id, denial.organization_id) == (sandbox_id, sandbox.organization_id)
        ]
        items.sort(key=lambda item: str(item["time"]))
        latest = [answer.next for answer in answers if isinstance(answer, DenialList)]
        gateways = [_told(lease, answer) for lease, answer in zip(asked, answers, strict=True)]
        gateways += [{"id": lease.gateway_id, "state": "not_asked"} for lease in live[MAX_GATEWAYS:]]
        return {"items": items[-limit:], "nextCursor": merge(cursor, latest), "gateways": gateways}

    async def _ask(self, lease: GatewayLease, query: dict[str, str], token: str) -> DenialList | str:
        """Return what a gateway tells, or why it does not."""
        try:
            return DenialList.model_validate_json(await self._admin.get(lease.admin_url, PATH, query, token))
        except Unanswered as error:
            reason = error.reason
        except ValidationError:
            reason = "answers what is no list of denials"
        _log.info("denials_not_told", gateway_id=lease.gateway_id, reason=reason)
        return reason

    def __repr__(self) -> str:
        return f"<DenialDesk {self._admin!r}>"


def _told(lease: GatewayLease, answer: DenialList | str) -> dict[str, object]:
    if isinstance(answer, str):
        return {"id": lease.gateway_id, "state": "away", "reason": answer}
    return {"id": lease.gateway_id, "state": "asked"}
