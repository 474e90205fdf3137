"""Recorded requests and a candidate plan: what changes comes first."""

import pytest

from sallyport.plan.simulate import RecordedRequest, RecordingError, read_har, simulate
from tests.support.plan_documents import plan_of, route_document

URL = "https://api.example.com/v1"
OTHER = "https://other.example/"


def test_what_changes_comes_first_and_the_same_request_once() -> None:
    requests = [RecordedRequest("GET", url) for url in (OTHER, URL, OTHER, "nonsense")]
    before = plan_of([route_document(match={"hosts": ["api.example.com"], "methods": ["POST"]})])
    found = simulate(requests, plan_of([route_document()]), before)
    assert [(each.request.url, each.count, each.is_changed) for each in found] == [
        (URL, 1, True),
        (OTHER, 2, False),
        ("nonsense", 1, False),
    ]
    document = found[0].to_document()
    assert document["before"] == {
        "decision": "forward",
        "reason": "no route and no rule of the plan claims this",
        "managed": True,
        "sentUrl": URL,
        "nearest": {"egressRuleId": "route", "mismatch": ["method"], "expected": {"method": ["POST"]}},
    }
    assert document["after"] == {
        "decision": "inject",
        "reason": "a route claims this",
        "managed": True,
        "egressRuleId": "route",
        "sentUrl": URL,
    }
    assert found[2].after.code == "invalid_request"


def test_a_route_that_does_something_else_is_a_change_and_another_name_is_none() -> None:
    before = plan_of([route_document()])
    for after, is_changed in (
        (route_document("renamed", bindingId="bnd_two"), False),
        (route_document(authInjection={"type": "basic", "username": "x"}), True),
    ):
        [found] = simulate([RecordedRequest("GET", URL)], plan_of([after]), before)
        assert found.is_changed is is_changed


def test_without_a_plan_before_nothing_is_a_change() -> None:
    [found] = simulate([RecordedRequest("GET", URL)], plan_of([route_document()]), None)
    assert (found.is_changed, found.before) == (False, None)
    assert "before" not in found.to_document()


def test_a_har_gives_its_requests() -> None:
    entries = [{"request": {"method": "GET", "url": URL}, "time": 1.5}, {"request": {"method": "PUT", "url": OTHER}}]
    assert read_har({"log": {"entries": entries}}) == [("GET", URL), ("PUT", OTHER)]


@pytest.mark.parametrize(
    "document",
    [[], {}, {"log": []}, {"log": {"entries": [1]}}, {"log": {"entries": [{"request": {"method": "GET"}}]}}],
)
def test_what_is_no_har_is_refused(document: object) -> None:
    with pytest.raises(RecordingError):
        read_har(document)
