"""What a request needs and is still being fetched: wait once, for a bounded time, then ask again.

Raised where the missing thing is noticed; whoever began the request waits and begins it again. With a plan and a CA
in hand nothing here is ever reached.
"""

from collections.abc import Awaitable

from gateway.core.authority import Refused
from gateway.core.decision import Deny
from gateway.core.errors import no_plan
from gateway.plan_holder import PlanHolder


class NotYet(Exception):
    """Await .wanted, which ends in time and never raises, then try again; refuse with .otherwise if it was in vain."""

    def __init__(self, wanted: Awaitable[object], otherwise: Deny) -> None:
        super().__init__(otherwise.detail)
        self.wanted = wanted
        self.otherwise = otherwise


def missing_plan(plans: PlanHolder, sandbox_id: str) -> NotYet | Refused:
    """Say what to raise where a sandbox has no plan: one may be on its way."""
    wanted = plans.want(sandbox_id)
    return Refused(no_plan()) if wanted is None else NotYet(wanted, no_plan())
