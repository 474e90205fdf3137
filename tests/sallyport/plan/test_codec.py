import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sallyport.plan.codec import (
    MAX_ISSUES,
    MAX_PLAN_BYTES,
    MAX_ROUTES,
    Issue,
    PlanError,
    canonical_json,
    parse_plan,
    plan_digest,
    seal,
)
from sallyport.plan.issue_codes import IssueCode
from tests.support.plan_documents import issues_of, plan_document, route_document, rule_document

# --- canonical JSON and the digest ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ({"b": [1, True, None], "a": {}}, b'{"a":{},"b":[1,true,null]}'),
        ({"\U0001f600": 1, "\uffff": 2, "é": 3, "z": 4}, '{"z":4,"é":3,"\uffff":2,"\U0001f600":1}'.encode()),
        ('"\\/\b\t\n\x0b\x7f', b'"\\"\\\\/\\b\\t\\n\\u000b\x7f"'),
        (("a", -(2**53) + 1), b'["a",-9007199254740991]'),
    ],
    ids=["plain", "by-code-point-not-utf16", "escapes", "tuple-and-smallest-integer"],
)
def test_a_value_has_one_byte_form(value: object, written: bytes) -> None:
    assert canonical_json(value) == written


@pytest.mark.parametrize(
    "value", [1.0, float("nan"), 2**53, {1: 2}, "\ud800", {"\ud800": 1}, b"x", {"a": [set()]}, [[1.5]]]
)
def test_what_has_no_byte_form_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r".+"):
        canonical_json(value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(JSON)
def test_canonical_json_reads_back(value: object) -> None:
    written = canonical_json(value)
    assert json.loads(written) == value
    assert canonical_json(json.loads(written)) == written


def test_the_digest_is_over_the_rest() -> None:
    document = plan_document()
    digest = f"sha256:{hashlib.sha256(canonical_json(document)).hexdigest()}"
    assert plan_digest(document) == digest
    assert plan_digest({**document, "digest": "anything"}) == digest
    sealed = seal({"digest": "old", **document})
    assert json.loads(sealed) == {**document, "digest": digest}
    assert seal(json.loads(sealed)) == sealed
    assert parse_plan(sealed).digest == digest


def test_order_and_white_space_are_no_part_of_the_digest_but_values_are() -> None:
    document = json.loads(seal(plan_document()))
    spaced = json.dumps(dict(reversed(document.items())), indent=2).encode()
    assert parse_plan(spaced) == parse_plan(seal(plan_document()))
    changed = json.dumps({**document, "revision": 2}).encode()
    assert issues_of(changed) == [("digest_mismatch", "/digest")]


def test_the_digest_is_over_the_document_as_received_without_defaults() -> None:
    said = seal(plan_document([route_document(allowCleartext=False)]))
    unsaid = seal(plan_document([route_document()]))
    assert parse_plan(said).digest != parse_plan(unsaid).digest
    assert parse_plan(said).egress_routes == parse_plan(unsaid).egress_routes


# --- documents that are none ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"", "invalid_json", id="empty"),
        pytest.param(b"{", "invalid_json", id="cut-short"),
        pytest.param(b"{} {}", "invalid_json", id="two"),
        pytest.param(b"\xef\xbb\xbf{}", "invalid_json", id="byte-order-mark"),
        pytest.param(b'{"a": "\xff"}', "not_utf8", id="latin-1"),
        pytest.param(b'{"a": "\xed\xa0\x80"}', "not_utf8", id="encoded-surrogate"),
        pytest.param('{"a": 1}'.encode("utf-16"), "not_utf8", id="utf-16"),
        pytest.param(b"[" * 100_000, "too_deep", id="deeper-than-the-decoder"),
        pytest.param(b" " * MAX_PLAN_BYTES + b"1", "plan_too_large", id="too-large"),
    ],
)
def test_bytes_that_are_no_document(data: bytes, code: str) -> None:
    assert issues_of(data) == [(code, "")]


def test_a_document_that_is_no_object() -> None:
    assert issues_of(b"[]") == [("wrong_type", "")]
    assert issues_of(b"null") == [("null_refused", "")]
    assert issues_of(b"1.5") == [("float_refused", "")]


def test_sizes_have_their_own_answer() -> None:
    for data in (b" " * (MAX_PLAN_BYTES + 1), seal({"egressRoutes": [{}] * (MAX_ROUTES + 1)})):
        with pytest.raises(PlanError) as refused:
            parse_plan(data)
        assert refused.value.is_too_large
        assert len(refused.value.issues) == 1
    with pytest.raises(PlanError) as refused:
        parse_plan(b"{}")
    assert not refused.value.is_too_large


def test_a_thousand_routes_are_a_plan() -> None:
    routes = [route_document(f"r{n}", match={"hosts": [f"h{n}.test"]}) for n in range(MAX_ROUTES)]
    assert len(parse_plan(seal(plan_document(routes))).egress_routes) == MAX_ROUTES
    assert issues_of(plan_document([*routes, route_document("one-more")])) == [("too_many_routes", "/egressRoutes")]


# --- all issues together ----------------------------------------------------------------------------------------------


def test_every_issue_of_a_document_is_reported() -> None:
    routes = [
        route_document("one", match={"hosts": ["127.1", "a.test"]}),
        route_document("two", bindingId="x"),
        route_document("same", match={"hosts": ["b.test"], "methods": ["PUT"]}),
        route_document("same", match={"hosts": ["*.test", "b.test"], "methods": ["PUT"], "pathPrefixes": ["/"]}),
        17,
    ]
    document = plan_document(routes, [rule_document("one", "deny"), "rule"], revision=0, unknown={"deep": 1})
    document["digest"] = "sha256:" + "0" * 64
    data = canonical_json(document).replace(b'"deep":1', b'"deep":1.5,"deep":null')
    assert set(issues_of(data)) == {
        ("duplicate_key", "/unknown/deep"),
        ("null_refused", "/unknown/deep"),
        ("out_of_range", "/revision"),
        ("wrong_type", "/egress/rules/1"),
        ("invalid_host_pattern", "/egressRoutes/0/match/hosts/0"),
        ("malformed", "/egressRoutes/1/bindingId"),
        ("wrong_type", "/egressRoutes/4"),
        ("unknown_field", "/unknown"),
        ("duplicate_id", "/egressRoutes/0/egressRuleId"),
        ("duplicate_id", "/egressRoutes/3/egressRuleId"),
        ("route_conflict", "/egressRoutes/3/match"),
    }


def test_an_artifact_comes_after_earlier_ones_only() -> None:
    def artifact(key: str, **members: object) -> dict[str, object]:
        return {"artifactKey": key, "name": key, "lifecycle": {"install": []}, **members}

    good = [artifact("a", after=[]), artifact("b", after=["a"]), artifact("c"), artifact("d", after=["a", "c"])]
    plan = parse_plan(seal(plan_document(artifacts=good)))
    assert [each.after for each in plan.artifacts] == [(), ("a",), None, ("a", "c")]
    bad = [artifact("a", after=["a"]), artifact("b", after=["a", "c", "x"]), artifact("c", after=["b"]), 7]
    assert issues_of(seal(plan_document(artifacts=bad))) == [
        ("wrong_type", "/artifacts/3"),
        ("artifact_invalid_ref", "/artifacts/0/after/0"),
        ("artifact_invalid_ref", "/artifacts/1/after/1"),
        ("artifact_invalid_ref", "/artifacts/1/after/2"),
    ]
    malformed = [artifact("a", after=[7]), artifact("b", after="a")]
    assert issues_of(seal(plan_document(artifacts=malformed))) == [
        ("wrong_type", "/artifacts/0/after/0"),
        ("wrong_type", "/artifacts/1/after"),
    ]


def test_a_faulty_document_still_has_its_digest_checked() -> None:
    document = {**plan_document(revision=0), "digest": f"sha256:{'0' * 64}"}
    assert issues_of(canonical_json(document)) == [("out_of_range", "/revision"), ("digest_mismatch", "/digest")]
    assert issues_of(canonical_json({**plan_document(), "digest": 1})) == [("wrong_type", "/digest")]
    assert issues_of(canonical_json({**plan_document(), "digest": "1"})) == [
        ("malformed", "/digest"),
        ("digest_mismatch", "/digest"),
    ]


def test_a_conflict_shows_the_request_that_both_routes_claim() -> None:
    routes = [
        route_document("one", match={"hosts": ["a.test"], "methods": ["PUT"], "pathPrefixes": ["/v1", "/v2"]}),
        route_document("two", match={"hosts": ["a.test"], "methods": ["GET", "PUT"], "pathPrefixes": ["/v2"]}),
    ]
    with pytest.raises(PlanError) as refused:
        parse_plan(seal(plan_document(routes)))
    (issue,) = refused.value.issues
    assert (issue.code, issue.pointer) == (IssueCode.ROUTE_CONFLICT, "/egressRoutes/1/match")
    assert "one" in issue.message
    assert "PUT https://a.test/v2" in issue.message


def test_claims_are_bounded() -> None:
    many = [f"/p{n}" for n in range(400)]
    hosts = [f"h{n}.test" for n in range(300)]
    wide = {"hosts": hosts, "pathPrefixes": many}
    assert issues_of(plan_document([route_document(match=wide)])) == [("too_many_claims", "/egressRoutes")]
    assert issues_of(plan_document(rules=[rule_document("wide", "deny", *hosts, pathPrefixes=many)])) == [
        ("too_many_claims", "/egressRoutes")
    ]


def test_issues_are_bounded() -> None:
    data = seal({f"k{n}": n for n in range(MAX_ISSUES + 1)})
    issues = issues_of(data)
    assert len(issues) == MAX_ISSUES + 1
    assert issues[-1] == ("more_issues", "")


def test_pointers_are_escaped_and_bounded() -> None:
    data = canonical_json({"a/b~c": 1, "x" * 1000: 1, "é": 1})
    pointers = {pointer for code, pointer in issues_of(data) if code == "unknown_field"}
    assert pointers == {"/a~1b~0c", "/" + "x" * 128 + "...", "/é"}
    assert ("float_refused", "/\\ud800") in issues_of(b'{"\\ud800": 1.5}')


def test_an_issue_is_printed_and_written() -> None:
    issue = Issue(code=IssueCode.NULL_REFUSED, pointer="/a", message="m")
    assert str(issue) == "/a: m [null_refused]"
    assert issue.to_document() == {"code": "null_refused", "pointer": "/a", "message": "m"}
    assert str(PlanError([issue])) == "/a: m [null_refused]"
    root = Issue(code=IssueCode.NOT_UTF8, pointer="", message="m")
    assert str(PlanError([root] * 4)) == "; ".join(["(document): m [not_utf8]"] * 3) + "; ..."


def test_no_issue_repeats_a_value() -> None:
    planted = "hunter2-planted"
    document = plan_document(
        [
            route_document(
                authInjection={"type": planted},
                additionalHeaders={"X-A": f"{planted}\n"},
                upstream={"baseUrl": f"https://user:{planted}@a.test"},
                match={"hosts": [f"{planted}..test"]},
            )
        ],
        sandboxId=planted,
        organizationId=f"{planted} ",
        revision=planted,
        image={"source": planted},
    )
    with pytest.raises(PlanError) as refused:
        parse_plan(seal(document))
    assert len(refused.value.issues) >= 7
    assert planted not in repr(refused.value.issues) + str(refused.value) + repr(refused.value)


# --- anything at all --------------------------------------------------------------------------------------------------

GOOD = seal(plan_document([route_document(upstream={"baseUrl": "https://a.test"})], [rule_document("rule", "deny")]))


@given(st.binary())
def test_any_bytes_are_a_plan_or_refused(data: bytes) -> None:
    with pytest.raises(PlanError):
        parse_plan(data)


@given(st.integers(0, len(GOOD) - 1), st.binary(max_size=3), st.integers(0, 3))
def test_a_changed_plan_is_refused(place: int, inserted: bytes, dropped: int) -> None:
    try:
        plan = parse_plan(GOOD[:place] + inserted + GOOD[place + dropped :])
    except PlanError:
        return
    assert plan == parse_plan(GOOD), "only the way the same document is written can change unnoticed"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["type", "[key]", "a_b", "x"]), inner),
    max_leaves=4,
)


@given(st.data())
def test_any_value_anywhere_in_a_plan_is_answered_with_issues_only(data: st.DataObject) -> None:
    document = json.loads(GOOD)
    parent: dict[str, object] | list[object] = document
    while True:
        keys = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
        key = data.draw(st.sampled_from(keys))
        child = parent[key]  # type: ignore[call-overload, index]  # the key was taken from this very parent
        if isinstance(child, dict | list) and child and data.draw(st.booleans()):
            parent = child
            continue
        parent[key] = data.draw(VALUES)  # type: ignore[call-overload, index]  # as above
        break
    try:
        parse_plan(json.dumps(document).encode())
    except PlanError as error:
        pointers = [issue.pointer for issue in error.issues]
    else:
        pointers = []
    assert all(pointer == "" or pointer.startswith("/") for pointer in pointers)
