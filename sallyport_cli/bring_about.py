"""What commands bring about at a control plane and a worker: a sandbox, its connections, its plan. All blocking."""

import json
import time
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import quote

from control_client.documents import DocumentError, DocumentSession
from sallyport.plan.codec import plan_digest
from sallyport_cli.failure import bad_input, environment

APPLICATIONS: Final = "/v1/plan-applications"
APPLY_SECONDS: Final = 120.0
APPLY_POLL_SECONDS: Final = 0.05
WATCH_POLL_SECONDS: Final = 0.2
# A worker that is started again is back by then, and goes on with its applications.
AWAY_SECONDS: Final = 30.0
ENDS: Final = ("applied", "failed", "cancelled", "superseded")


def ensure_sandbox(session: DocumentSession, sandbox_id: str, organization_id: str) -> None:
    """Make the sandbox unless it is there; raises Failure where it is somebody else's."""
    found = _look(session, f"/v1/sandboxes/{quote(sandbox_id)}")
    if found is None:
        post(session, "/v1/sandboxes", {"sandboxId": sandbox_id, "organizationId": organization_id})
    elif found.get("organizationId") != organization_id:
        raise bad_input(
            f"sandbox {sandbox_id} belongs to {found.get('organizationId')}, the plan says {organization_id}",
            "correct the plan, or take another data directory",
        )


def ensure_connection(session: DocumentSession, organization_id: str, connection_id: str, value: str) -> None:
    """Make the connection, or give it the value of today."""
    path = f"/v1/integration/connections/{quote(connection_id)}"
    if _look(session, path) is not None:
        _change(session, "PUT", f"{path}/api-key", {"value": value})
        return
    made = {"organizationId": organization_id, "connectionId": connection_id, "secretType": "api_key", "value": value}
    # The plan was written by hand, and says itself where the secret goes.
    post(session, "/v1/integration/connections/hand-made/api-key", made)


def store_plan(session: DocumentSession, plan: dict[str, object]) -> int:
    """Store the plan and return its revision: its own, or the next one where a changed plan is older or equal."""
    sandbox_id = str(plan["sandboxId"])
    newest = _newest_plan(session, sandbox_id)
    if newest is not None:
        revision = int(str(newest["revision"]))
        # The same plan again, whatever number it had: nothing to do.
        if newest["digest"] == plan_digest(plan | {"revision": revision}):
            return revision
        plan = plan | {"revision": max(revision + 1, int(str(plan["revision"])))}
    document = {name: value for name, value in plan.items() if name != "digest"}
    # Putting it in force is the worker's: it waits for the gateways and sets the sandbox up.
    stored = post(session, f"/v1/sandboxes/{quote(sandbox_id)}/plans?inForce=false", document)
    return int(str(stored["revision"]))


def _newest_plan(session: DocumentSession, sandbox_id: str) -> dict[str, object] | None:
    page = _look(session, f"/v1/sandboxes/{quote(sandbox_id)}/plans?limit=1")
    items = None if page is None else page["items"]
    return dict(items[0]) if isinstance(items, list) and items else None


def apply_plan(worker_url: str, sandbox_id: str, revision: int) -> None:
    """Have the worker apply the plan; what needs sandboxd goes on after this returns."""
    session = DocumentSession(worker_url)
    path = f"{APPLICATIONS}/{begin_application(session, sandbox_id, revision)}"
    for _ in range(int(APPLY_SECONDS / APPLY_POLL_SECONDS)):
        steps = {step["name"]: step for step in _steps(session.get(path))}
        if steps["wait_for_gateways"]["state"] == "done":
            return
        for step in steps.values():
            if step["state"] == "failed":
                raise environment(f"the plan is not applied: {step['name']}: {step['issue']}")
        time.sleep(APPLY_POLL_SECONDS)
    raise environment(f"the plan was not applied within {APPLY_SECONDS:g} s", "the log of the worker says more")


def begin_application(session: DocumentSession, sandbox_id: str, revision: int) -> str:
    """Have a worker begin to apply a stored plan; return the application's id. Raises Failure."""
    begun = post(session, APPLICATIONS, {"sandboxId": sandbox_id, "revision": revision})
    return str(begun["applicationId"])


def follow_application(session: DocumentSession, application_id: str) -> Iterator[dict[str, object]]:
    """Yield the application each time it differs, until it has ended; raises Failure where the worker stays away."""
    before: dict[str, object] | None = None
    missed = 0
    while before is None or before["state"] not in ENDS:
        try:
            now = session.get(f"{APPLICATIONS}/{quote(application_id)}")
            missed = 0
        except DocumentError as error:
            missed += 1
            if error.status not in (None, 503) or missed * WATCH_POLL_SECONDS > AWAY_SECONDS:
                raise environment(str(error), "a worker that comes back goes on with the application") from None
        else:
            if now != before:
                yield now
            before = now
        time.sleep(WATCH_POLL_SECONDS)


def told_steps(before: Mapping[str, object] | None, now: Mapping[str, object]) -> Iterator[str]:
    """Yield a line for each step that has come further, or waits for something else."""
    known = {step["name"]: step for step in _steps(before or {})}
    for step in _steps(now):
        told = known.get(step["name"], {"state": "pending", "issue": None})
        if (told["state"], told["issue"]) != (step["state"], step["issue"]):
            yield f"{step['name']:24} {step['state']}{': ' if step['issue'] else ''}{step['issue'] or ''}"


def _steps(application: Mapping[str, object]) -> Iterator[Mapping[str, str]]:
    steps = application.get("steps")
    yield from steps if isinstance(steps, list) else ()


def _look(session: DocumentSession, path: str) -> dict[str, object] | None:
    body = _look_bytes(session, path)
    return None if body is None else dict(json.loads(body))


def _look_bytes(session: DocumentSession, path: str) -> bytes | None:
    """Return what stands there, or None where nothing does."""
    try:
        return session.ask("GET", path)
    except DocumentError as error:
        if error.status == 404:
            return None
        raise environment(str(error)) from None


def post(session: DocumentSession, path: str, document: object) -> dict[str, object]:
    """Send a document and return the answer's; raises Failure."""
    return dict(json.loads(_change(session, "POST", path, document)))


def _change(session: DocumentSession, method: str, path: str, document: object) -> bytes:
    try:
        return session.ask(method, path, json.dumps(document).encode())
    except DocumentError as error:
        raise (bad_input if error.status in (400, 404, 409, 422) else environment)(str(error)) from None
