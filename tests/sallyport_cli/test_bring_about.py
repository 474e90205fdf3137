"""What `up` asks of a control plane and a worker, against servers that answer as they do."""

import json
from collections.abc import Iterator

import pytest

from control_client.documents import DocumentSession
from sallyport.plan.codec import plan_digest
from sallyport_cli import bring_about
from sallyport_cli.failure import ExitStatus, Failure
from tests.support.plan_documents import plan_document
from tests.support.scripted_http import ScriptedHttp, scripted_http

CONNECTION = "/v1/integration/connections/con_1"


@pytest.fixture
def far() -> Iterator[ScriptedHttp]:
    with scripted_http() as far:
        far.status, far.body = 404, b'{"code": "not_found", "detail": "nothing here"}'
        yield far


def session(far: ScriptedHttp) -> DocumentSession:
    return DocumentSession(far.url, "t")


def test_a_sandbox_is_made_unless_it_is_there(far: ScriptedHttp) -> None:
    far.answer("/v1/sandboxes", {"sandboxId": "sbx_1"}, 201)
    bring_about.ensure_sandbox(session(far), "sbx_1", "org_1")
    assert json.loads(far.asked[-1].body) == {"sandboxId": "sbx_1", "organizationId": "org_1"}
    far.answer("/v1/sandboxes/sbx_1", {"organizationId": "org_1"})
    bring_about.ensure_sandbox(session(far), "sbx_1", "org_1")
    assert [asked.method for asked in far.asked] == ["GET", "POST", "GET"]


def test_another_organization_s_sandbox_is_not_taken(far: ScriptedHttp) -> None:
    far.answer("/v1/sandboxes/sbx_1", {"organizationId": "org_other"})
    with pytest.raises(Failure, match="belongs to org_other, the plan says org_1"):
        bring_about.ensure_sandbox(session(far), "sbx_1", "org_1")


def test_a_connection_is_made_or_given_the_value_of_today(far: ScriptedHttp) -> None:
    far.answer("/v1/integration/connections/hand-made/api-key", {}, 201)
    bring_about.ensure_connection(session(far), "org_1", "con_1", "canary")
    assert json.loads(far.asked[-1].body)["value"] == "canary"
    far.answer(CONNECTION, {"connectionId": "con_1"})
    far.answer(f"{CONNECTION}/api-key", {})
    bring_about.ensure_connection(session(far), "org_1", "con_1", "canary-2")
    assert (far.asked[-1].method, json.loads(far.asked[-1].body)) == ("PUT", {"value": "canary-2"})


def test_a_plan_keeps_its_revision_or_gets_the_next(far: ScriptedHttp) -> None:
    stored = "/v1/sandboxes/sbx_one/plans?inForce=false"
    far.answer(stored, {"revision": 3}, 201)
    assert bring_about.store_plan(session(far), plan_document(revision=3)) == 3
    assert "digest" not in json.loads(far.asked[-1].body)
    newest = {"revision": 7, "digest": plan_digest(plan_document(revision=7)), "createdAt": 1}
    far.answer("/v1/sandboxes/sbx_one/plans?limit=1", {"items": [newest]})
    assert bring_about.store_plan(session(far), plan_document(revision=3)) == 7  # the same plan: nothing is stored
    assert far.asked[-1].method == "GET"
    far.answer(stored, {"revision": 8}, 201)
    assert bring_about.store_plan(session(far), plan_document(revision=3, default="deny")) == 8
    assert json.loads(far.asked[-1].body)["revision"] == 8


def test_a_refused_plan_is_bad_input_with_every_issue(far: ScriptedHttp) -> None:
    issues = [{"pointer": "/revision", "message": "wrong"}]
    far.answer("/v1/sandboxes/sbx_one/plans?inForce=false", {"code": "invalid_plan", "issues": issues}, 422)
    with pytest.raises(Failure, match="/revision: wrong") as caught:
        bring_about.store_plan(session(far), plan_document())
    assert caught.value.status is ExitStatus.BAD_INPUT


def application(far: ScriptedHttp, **states: str) -> None:
    far.answer("/v1/plan-applications", {"applicationId": "app_1"}, 202)
    names = ("write_plan", "wait_for_gateways", "push_setup")
    steps = [{"name": name, "state": states.get(name, "pending"), "issue": "why"} for name in names]
    far.answer("/v1/plan-applications/app_1", {"steps": steps})


def test_it_goes_on_once_the_gateways_have_the_plan(far: ScriptedHttp) -> None:
    application(far, write_plan="done", wait_for_gateways="done", push_setup="running")
    bring_about.apply_plan(far.url, "sbx_1", 1)


def test_a_failed_step_is_told(far: ScriptedHttp) -> None:
    application(far, write_plan="failed")
    with pytest.raises(Failure, match="the plan is not applied: write_plan: why"):
        bring_about.apply_plan(far.url, "sbx_1", 1)


def test_one_that_never_gets_there_is_given_up(far: ScriptedHttp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bring_about, "APPLY_SECONDS", 0.1)
    application(far)
    with pytest.raises(Failure, match=r"not applied within 0\.1 s"):
        bring_about.apply_plan(far.url, "sbx_1", 1)


def test_a_worker_that_stays_away_is_given_up(far: ScriptedHttp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bring_about, "AWAY_SECONDS", 0.3)
    far.status = 503
    with pytest.raises(Failure, match="answers 503") as caught:
        list(bring_about.follow_application(DocumentSession(far.url), "app_1"))
    assert "goes on" in caught.value.hint
    far.status, far.asked[:] = 404, []
    with pytest.raises(Failure, match="answers 404"):
        list(bring_about.follow_application(DocumentSession(far.url), "app_1"))
    assert len(far.asked) == 1


def test_what_has_come_further_is_told() -> None:
    def steps(**states: tuple[str, str | None]) -> dict[str, object]:
        return {"steps": [{"name": name, "state": state, "issue": issue} for name, (state, issue) in states.items()]}

    first = steps(write_plan=("running", None), push_setup=("pending", None))
    waits = steps(write_plan=("done", None), push_setup=("running", "no tunnel yet"))
    assert [line.split() for line in bring_about.told_steps(None, first)] == [["write_plan", "running"]]
    told = ["write_plan               done", "push_setup               running: no tunnel yet"]
    assert list(bring_about.told_steps(first, waits)) == told
    assert list(bring_about.told_steps(waits, waits)) == []
