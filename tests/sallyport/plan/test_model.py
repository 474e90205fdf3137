import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sallyport.destination import Destination
from sallyport.plan.codec import parse_plan
from sallyport.plan.fields import Model
from sallyport.plan.model import CompiledRuntimePlan, EgressRoute, Upstream
from tests.support.plan_documents import issues_of, plan_document, plan_of, route_document, rule_document

PAGE = (Path(__file__).parents[3] / "docs" / "runtime-plan.md").read_text("utf-8")
EXAMPLE = PAGE.partition("```json\n")[2].partition("```")[0]
PROSE = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
NAMED_IN_PROSE = {word for code in re.findall(r"`([^`]+)`", PROSE) for word in re.findall(r"\w+", code)}


def models(model: type[Model] = Model) -> Iterator[type[Model]]:
    for child in model.__subclasses__():
        # Bodies of other parts' APIs are models too, where another test has imported them.
        if child.__module__.startswith("sallyport.plan."):
            yield child
            yield from models(child)


def names_in(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for name, member in value.items():
            yield name
            yield from names_in(member)
    if isinstance(value, list):
        for item in value:
            yield from names_in(item)


# --- the document -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", list(models()), ids=lambda model: model.__name__)
def test_every_field_is_documented(model: type[Model]) -> None:
    assert {field.alias for field in model.model_fields.values()} - NAMED_IN_PROSE == set()


def test_the_example_is_a_plan_that_uses_every_field() -> None:
    plan = parse_plan(EXAMPLE.encode())
    assert plan.sandbox_id == "sbx_01j9w"
    named = set(names_in(json.loads(EXAMPLE)))
    assert {field.alias for model in models() for field in model.model_fields.values()} - named == set()


def test_a_plan_cannot_be_changed() -> None:
    plan = parse_plan(EXAMPLE.encode())
    with pytest.raises(ValidationError, match="frozen"):
        plan.revision = 2  # type: ignore[misc]  # that it is refused is what is tested
    headers = plan.egress_routes[1].additional_headers
    with pytest.raises(TypeError):
        headers["X-New"] = "x"  # type: ignore[index]  # that it is refused is what is tested
    assert isinstance(plan.artifacts[0].lifecycle.install, tuple)


@pytest.mark.parametrize(
    "name", [field.alias for field in CompiledRuntimePlan.model_fields.values() if field.alias != "digest"]
)
def test_every_part_of_a_plan_is_required(name: str) -> None:
    document = plan_document()
    del document[name]
    assert issues_of(document) == [("missing_field", f"/{name}")]


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("schemaVersion", 2, "unknown_value"),
        ("schemaVersion", "1", "unknown_value"),
        ("version", 0, "out_of_range"),
        ("revision", 0, "out_of_range"),
        ("revision", True, "wrong_type"),
        ("revision", "1", "wrong_type"),
        ("sandboxId", "one", "malformed"),
        ("sandboxId", "sbx_", "malformed"),
        ("sandboxId", "sbx_a/b", "malformed"),
        ("sandboxId", "sbx_a\n", "malformed"),
        ("organizationId", "", "malformed"),
        ("organizationId", "x" * 129, "malformed"),
        ("egressRoutes", {}, "wrong_type"),
        ("egress", [], "wrong_type"),
        ("sandbox_id", "sbx_one", "unknown_field"),
    ],
)
def test_the_head_of_a_plan_is_strict(name: str, value: object, code: str) -> None:
    assert issues_of({**plan_document(), name: value}) == [(code, f"/{name}")]


# --- rules ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "code", "pointer"),
    [
        ({"action": "log"}, "unknown_value", "/action"),
        ({"hosts": []}, "out_of_range", "/hosts"),
        ({"hosts": "*"}, "wrong_type", "/hosts"),
        ({"hosts": [1]}, "wrong_type", "/hosts/0"),
        ({"hosts": ["a.test", "127.1"]}, "invalid_host_pattern", "/hosts/1"),
        ({"ports": []}, "out_of_range", "/ports"),
        ({"ports": [443, 0]}, "out_of_range", "/ports/1"),
        ({"ports": [65536]}, "out_of_range", "/ports/0"),
        ({"methods": ["GE T"]}, "malformed", "/methods/0"),
        ({"pathPrefixes": ["v1"]}, "invalid_path_prefix", "/pathPrefixes/0"),
        ({"reason": "a\nb"}, "malformed", "/reason"),
        ({"ruleId": "a/b"}, "malformed", "/ruleId"),
        ({"encodedSlash": "literal"}, "unknown_field", "/encodedSlash"),
    ],
)
def test_a_rule_is_strict(fields: dict[str, object], code: str, pointer: str) -> None:
    rule = {**rule_document("rule", "allow"), **fields}
    assert issues_of(plan_document(rules=[rule])) == [(code, f"/egress/rules/0{pointer}")]


def test_a_rule_knows_whether_it_reads_requests() -> None:
    plan = plan_of(
        rules=[
            rule_document("a", "deny", ports=[22]),
            rule_document("b", "deny", methods=["GET"]),
            rule_document("c", "deny", pathPrefixes=["/x"]),
        ]
    )
    assert [rule.reads_requests for rule in plan.egress.rules] == [False, True, True]


# --- routes -----------------------------------------------------------------------------------------------------------

WILDCARD = {"hosts": ["*.example.com"]}


@pytest.mark.parametrize(
    ("fields", "code", "pointer"),
    [
        pytest.param({"match": {"hosts": ["*"]}}, "lone_wildcard", "/match/hosts/0", id="H10-lone-wildcard"),
        ({"match": {"hosts": ["a.test"], "pathPrefixes": ["/v1/"]}}, "invalid_path_prefix", "/match/pathPrefixes/0"),
        ({"match": {"hosts": ["a.test"], "encodedSlash": "slash"}}, "unknown_value", "/match/encodedSlash"),
        ({"bindingId": "one"}, "malformed", "/bindingId"),
        ({"upstream": {"baseUrl": "https://a.test/"}}, "invalid_url", "/upstream/baseUrl"),
        ({"upstream": {}}, "missing_field", "/upstream/baseUrl"),
        ({"upstream": {"baseUrl": "https://a.test"}, "match": WILDCARD}, "wildcard_base_url", "/upstream"),
        ({"upstream": {"baseUrl": "http://a.test"}}, "cleartext_base_url", "/allowCleartext"),
        ({"upstream": {"baseUrl": "http://a.test"}, "allowCleartext": False}, "cleartext_base_url", "/allowCleartext"),
        ({"allowCleartext": 1}, "wrong_type", "/allowCleartext"),
        ({"authInjection": {}}, "missing_field", "/authInjection/type"),
        ({"authInjection": "bearer"}, "wrong_type", "/authInjection"),
        ({"authInjection": {"type": "digest"}}, "unknown_value", "/authInjection/type"),
        ({"authInjection": {"type": "bearer", "bearer": 1}}, "unknown_field", "/authInjection/bearer"),
        ({"authInjection": {"type": "bearer", "header": "Host"}}, "reserved_header", "/authInjection/header"),
        ({"authInjection": {"type": "basic", "username": "a:b"}}, "malformed", "/authInjection/username"),
        ({"authInjection": {"type": "header"}}, "missing_field", "/authInjection/header"),
        (
            {"authInjection": {"type": "header", "header": "X-Key", "prefix": "a\r\n"}},
            "invalid_header_value",
            "/authInjection/prefix",
        ),
        ({"authInjection": {"type": "query", "parameter": ""}}, "malformed", "/authInjection/parameter"),
        ({"authInjection": {"type": "aws_sigv4", "region": "x"}}, "missing_field", "/authInjection/service"),
        (
            {"credentialResolver": {"kind": "file", "connectionId": "con_one", "secretType": "api_key"}},
            "unknown_value",
            "/credentialResolver/kind",
        ),
        (
            {"credentialResolver": {"kind": "integration_connection", "connectionId": "one", "secretType": "x"}},
            "malformed",
            "/credentialResolver/connectionId",
        ),
        ({"additionalHeaders": {"X-A": "a\r\nb"}}, "invalid_header_value", "/additionalHeaders/X-A"),
        ({"additionalHeaders": {"X A": "b"}}, "invalid_header_name", "/additionalHeaders/X A"),
        ({"additionalHeaders": {"[key]": "b"}}, "invalid_header_name", "/additionalHeaders/[key]"),
        (
            {"additionalHeaders": {"Proxy-Authorization": "b"}},
            "reserved_header",
            "/additionalHeaders/Proxy-Authorization",
        ),
        ({"additionalHeaders": {"authorization": "b"}}, "header_conflict", "/additionalHeaders"),
        ({"additionalHeaders": {"X-A": "a", "x-a": "b"}}, "header_conflict", "/additionalHeaders"),
        ({"placeholders": [{"value": "1234567", "in": ["header"]}]}, "malformed", "/placeholders/0/value"),
        ({"placeholders": [{"value": "12345678", "in": []}]}, "out_of_range", "/placeholders/0/in"),
        ({"placeholders": [{"value": "12345678", "in": ["body"]}]}, "unknown_value", "/placeholders/0/in/0"),
        (
            {"placeholders": [{"value": "12345678", "parts": ["path"], "in": ["path"]}]},
            "unknown_field",
            "/placeholders/0/parts",
        ),
        ({"keepHeaders": ["AUTHORIZATION"]}, "kept_auth_header", "/keepHeaders"),
        (
            {"keepHeaders": ["Authorization"], "authInjection": {"type": "header", "header": "X-Key"}},
            "kept_auth_header",
            "/keepHeaders",
        ),
        ({"keepHeaders": ["a b"]}, "invalid_header_name", "/keepHeaders/0"),
        (
            {"keepHeaders": ["x-key"], "authInjection": {"type": "header", "header": "X-Key"}},
            "kept_auth_header",
            "/keepHeaders",
        ),
        (
            {"keepHeaders": ["x-key"], "authInjection": {"type": "bearer", "header": "X-Key"}},
            "kept_auth_header",
            "/keepHeaders",
        ),
        ({"keepHeaders": ["X-a"], "additionalHeaders": {"X-A": "1"}}, "kept_auth_header", "/keepHeaders"),
        ({"stripQuery": [""]}, "malformed", "/stripQuery/0"),
        ({"limits": {"maxConcurrent": 0}}, "out_of_range", "/limits/maxConcurrent"),
        ({"limits": {"maxRequestBodyBytes": -1}}, "out_of_range", "/limits/maxRequestBodyBytes"),
    ],
)
def test_a_route_is_strict(fields: dict[str, Any], code: str, pointer: str) -> None:
    assert issues_of(plan_document([route_document(**fields)])) == [(code, f"/egressRoutes/0{pointer}")]


def test_headers_of_additional_credentials_count_as_written() -> None:
    resolver = route_document()["credentialResolver"]
    extra = [{"header": "X-Second", "credentialResolver": resolver}]
    kept = route_document(additionalCredentialHeaders=extra, keepHeaders=["x-second", "Cookie"])
    assert issues_of(plan_document([kept])) == [("kept_auth_header", "/egressRoutes/0/keepHeaders")]
    twice = route_document(additionalCredentialHeaders=extra, additionalHeaders={"x-second": "1"})
    assert issues_of(plan_document([twice])) == [("header_conflict", "/egressRoutes/0/additionalCredentialHeaders")]
    route = EgressRoute.model_validate(
        route_document(additionalCredentialHeaders=extra, additionalHeaders={"X-A": "1"})
    )
    assert route.injected_headers == ("authorization", "x-a", "x-second")


def test_a_query_credential_writes_no_header() -> None:
    route = EgressRoute.model_validate(route_document(authInjection={"type": "query", "parameter": "key"}))
    assert route.injected_headers == ()


def test_a_fault_elsewhere_in_a_route_does_not_hide_its_conflicts() -> None:
    route = route_document(
        familyId="",
        match=WILDCARD,
        upstream={"baseUrl": "https://a.test"},
        keepHeaders=["Authorization"],
        additionalHeaders={"Authorization": "x"},
        extra=1,
    )
    assert set(issues_of(plan_document([route]))) == {
        ("malformed", "/egressRoutes/0/familyId"),
        ("wildcard_base_url", "/egressRoutes/0/upstream"),
        ("header_conflict", "/egressRoutes/0/additionalHeaders"),
        ("kept_auth_header", "/egressRoutes/0/keepHeaders"),
        ("unknown_field", "/egressRoutes/0/extra"),
    }


def test_an_upstream_knows_its_destination() -> None:
    upstream = Upstream.model_validate({"baseUrl": "HTTPS://API.example.com:8443"})
    assert upstream.destination == Destination("https", "api.example.com", 8443)
    assert upstream.destination is upstream.destination, "read once"
