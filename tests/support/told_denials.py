"""Denials as gateways tell them, and gateways of a test that tell them to a control plane."""

import json
from collections.abc import Sequence
from typing import Any

from tests.support.control_plane import ORGANIZATION, SANDBOX, Replica
from tests.support.scripted_http import ScriptedHttp

NAME = "0a1b2c3d"


def told_denial(path: str = "/v2", **members: object) -> dict[str, Any]:
    """Return a denial; None takes a member away."""
    denial: dict[str, object] = {
        "time": "2026-11-29T04:00:00.000Z",
        "requestId": "req_1",
        "organizationId": ORGANIZATION,
        "sandboxId": SANDBOX,
        "source": "explicit",
        "mode": "intercepted",
        "method": "GET",
        "scheme": "https",
        "host": "api.example.com",
        "port": 443,
        "path": path,
        "planRevision": 1,
        "outcome": "denied",
        "status": 403,
        "code": "denied_by_plan",
        "retryable": False,
        "detail": "no route claims this",
        "nearest": {"egressRuleId": "route", "mismatch": ["path"], "expected": {"path": ["/v1"]}},
    }
    return {name: value for name, value in (denial | members).items() if value is not None}


def tell(gateway: ScriptedHttp, denials: Sequence[object], number: int = 1, name: str = NAME) -> None:
    """Have a gateway answer whatever it is asked with these."""
    gateway.body = json.dumps({"items": denials, "next": f"{name}-{number}"}).encode()


async def report_gateway(api: Replica, admin_url: str, gateway_id: str = "gw_1", **sandboxes: int) -> None:
    """Report a lease as a gateway does, of sandboxes it has a tunnel of."""
    held = [{"sandboxId": each, "tunnel": True, "tunnelEpoch": epoch} for each, epoch in sandboxes.items()]
    body = {"epoch": 1, "adminUrl": admin_url, "sandboxes": held, "planRevisions": {}}
    await api.ask("PUT", f"/internal/gateways/{gateway_id}/lease", body)
