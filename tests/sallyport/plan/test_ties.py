import pytest

from sallyport.plan.explain import nearest
from sallyport.plan.model import EgressRoute
from sallyport.plan.ties import Tie, find_ties
from sallyport.plan.url import split_url
from tests.support.plan_documents import plan_of, route_document


def ties(*matches: dict[str, object]) -> list[Tie]:
    routes = [
        EgressRoute.model_validate(route_document(f"r{index}", match=match)) for index, match in enumerate(matches)
    ]
    return find_ties(dict(enumerate(routes)))


@pytest.mark.parametrize(
    ("first", "second", "request_shown"),
    [
        pytest.param({"hosts": ["a.test"]}, {"hosts": ["A.test."]}, "GET https://a.test/", id="same-host"),
        pytest.param(
            {"hosts": ["a.test"]},
            {"hosts": ["a.test"], "pathPrefixes": ["/"]},
            "GET https://a.test/",
            id="root-is-none",
        ),
        pytest.param(
            {"hosts": ["x.test", "a.test"], "pathPrefixes": ["/v1", "/v2"], "methods": ["PUT", "POST"]},
            {"hosts": ["a.test"], "pathPrefixes": ["/v2"], "methods": ["POST", "GET"]},
            "POST https://a.test/v2",
            id="overlap-of-lists",
        ),
        pytest.param(
            {"hosts": ["a.test"], "ports": [8443, 80]},
            {"hosts": ["a.test"], "ports": [80]},
            "GET http://a.test/",
            id="port-80",
        ),
        pytest.param(
            {"hosts": ["a.test"], "ports": [8443]},
            {"hosts": ["a.test"], "ports": [8443]},
            "GET https://a.test:8443/",
            id="listed-port",
        ),
        pytest.param(
            {"hosts": ["*.test", "any.test"]},
            {"hosts": ["*.test", "*.any1.test"]},
            "GET https://any2.test/",
            id="wildcard-beside-more-specific-patterns",
        ),
        pytest.param({"hosts": ["::1"]}, {"hosts": ["[::1]"]}, "GET https://[::1]/", id="ipv6"),
    ],
)
def test_a_tie_shows_a_request_that_both_claim(
    first: dict[str, object], second: dict[str, object], request_shown: str
) -> None:
    (tie,) = ties(first, second)
    assert (tie.first_rule_id, tie.second_rule_id, tie.request) == ("r0", "r1", request_shown)
    assert (tie.first_index, tie.second_index) == (0, 1)
    method, url = tie.request.split(" ")
    parts = split_url(url)
    for match in (first, second):
        plan = plan_of([route_document(match=match, allowCleartext=True)])
        closest = nearest(plan, *parts.destination, method, parts.path)
        assert closest is not None
        assert closest["mismatch"] == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param({"hosts": ["a.test"]}, {"hosts": ["b.test"]}, id="hosts"),
        pytest.param({"hosts": ["a.test"]}, {"hosts": ["*.test"]}, id="exact-and-wildcard"),
        pytest.param({"hosts": ["a.test"]}, {"hosts": ["a.test"], "ports": [443]}, id="default-and-listed-port"),
        pytest.param({"hosts": ["a.test"]}, {"hosts": ["a.test"], "methods": ["GET"]}, id="any-and-listed-method"),
        pytest.param(
            {"hosts": ["a.test"], "pathPrefixes": ["/v1"]},
            {"hosts": ["a.test"], "pathPrefixes": ["/v1/x", "/v2"]},
            id="prefixes",
        ),
        pytest.param(
            {"hosts": ["a.test"], "methods": ["GET"]}, {"hosts": ["a.test"], "methods": ["POST"]}, id="methods"
        ),
    ],
)
def test_routes_that_precedence_tells_apart_do_not_tie(first: dict[str, object], second: dict[str, object]) -> None:
    assert ties(first, second) == []


def test_a_route_does_not_tie_with_itself() -> None:
    assert ties({"hosts": ["a.test", "a.test"], "methods": ["GET", "GET"]}) == []


def test_every_later_route_of_a_slot_is_shown_once_against_the_first() -> None:
    same: dict[str, object] = {"hosts": ["a.test", "b.test"], "methods": ["GET", "PUT"]}
    assert [(tie.first_index, tie.second_index) for tie in ties(same, same, same)] == [(0, 1), (0, 2)]
