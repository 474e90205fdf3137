"""The plan that the gateway is measured with is a plan."""

from benchmarks.own import plan_document
from sallyport.plan.codec import parse_plan, seal
from sallyport.plan.match import AnswerKind, Matcher


def test_the_plan_has_ten_routes_and_injects_on_the_origin_only() -> None:
    plan = parse_plan(seal(plan_document("api.bench.test")))
    matcher = Matcher(plan)
    assert len(plan.egress_routes) == 10
    assert matcher.for_host("http", "api.bench.test", 80).decide("GET", "/v1/models/small").kind is AnswerKind.INJECT
    assert matcher.for_host("http", "other.test", 80).decide("GET", "/v1/models/small").kind is AnswerKind.DENY
