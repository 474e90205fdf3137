from sallyport.host import parse_host_pattern
from sallyport.plan.model import RouteMatch
from sallyport.plan.precedence import ClaimIndex, claims_of, count_claims, first_answer, patterns_claiming


def claim(**fields: object) -> RouteMatch:
    return RouteMatch.model_validate({"hosts": ["api.example.com"], **fields})


def test_patterns_that_claim_a_host_come_most_specific_first() -> None:
    assert patterns_claiming("a.b.test") == ["a.b.test", "*.b.test", "*.test", "*"]
    assert patterns_claiming("::1") == ["::1", "*"]


def test_a_slot_stays_with_its_first_holder() -> None:
    index: ClaimIndex[str] = ClaimIndex()
    index.put(claim(), "first")
    index.put(claim(pathPrefixes=["/"]), "second")
    index.put(claim(methods=["GET"]), "first GET")
    index.put(claim(methods=["GET", "PUT"]), "second GET")
    levels = index.levels("api.example.com", 443, by_default=True)
    assert first_answer(levels, "POST", ["x"]) == "first"
    assert first_answer(levels, "GET", ["x"]) == "first GET"
    assert first_answer(levels, "PUT", ["x"]) == "second GET"


def test_levels_stop_at_the_one_that_answers_everything() -> None:
    index: ClaimIndex[str] = ClaimIndex()
    index.put(claim(pathPrefixes=["/v1"]), "path")
    index.put(claim(hosts=["*.example.com"]), "everything below")
    index.put(claim(hosts=["*.com"]), "never asked")
    levels = index.levels("api.example.com", 443, by_default=True)
    assert len(levels) == 2
    assert [level.reads_requests for level in levels] == [True, False]
    assert [level.depth for level in levels] == [1, 0]
    assert first_answer(levels, "GET", ["v2"]) == "everything below"


def test_claims_on_the_default_port_answer_only_where_asked() -> None:
    index: ClaimIndex[str] = ClaimIndex()
    index.put(claim(), "default")
    index.put(claim(ports=[8443]), "listed")
    assert index.levels("api.example.com", 9000, by_default=False) == ()
    (level,) = index.levels("api.example.com", 8443, by_default=False)
    assert first_answer((level,), "GET", []) == "listed"
    assert index.levels("other.test", 443, by_default=True) == ()


def test_a_claimant_takes_the_product_of_its_lists() -> None:
    wide = claim(hosts=["a.test", "*.b.test"], ports=[1, 2], methods=["GET"], pathPrefixes=["/v1", "/v2", "/v3"])
    claims = list(claims_of(wide))
    assert len(claims) == len(set(claims)) == count_claims(wide) == 12
    assert list(claims_of(claim())) == [(parse_host_pattern("api.example.com"), None, "/", None)]
    assert count_claims(claim()) == 1
