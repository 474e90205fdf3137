"""What a newer plan takes away, by a glance."""

import pytest

from gateway.core.plan_reach import takes_away
from sallyport.plan.codec import seal
from tests.support.gateway_plans import plan, route
from tests.support.plan_documents import Document, mcp_servers, plan_document, rule_document

ONE, TWO = route("one", ["one.test"], "con_one"), route("two", ["*.two.test"], "con_two")
RULE = rule_document("open", "allow", "open.test")


def changed(**fields: object) -> bytes:
    return seal(plan_document([ONE, TWO], [RULE], default="deny", revision=2, **fields))


def reaching(document: Document, **match: object) -> Document:
    return document | {"match": {"hosts": ["one.test"]} | match}


@pytest.mark.parametrize(
    ("after", "does"),
    [
        (plan([ONE, TWO], [RULE], revision=2), False),
        (plan([TWO, ONE], [RULE], revision=2), False),
        (plan([ONE, TWO, ONE | {"egressRuleId": "also"}], [RULE], revision=2), False),
        (plan([reaching(ONE, pathPrefixes=["/v1"]), TWO], [RULE], revision=2), False),
        (changed(artifacts=[]), False),
        # A binding, an opaque host by a rule, by the default and by a route, a tenant, and a way into the sandbox.
        (plan([ONE], [RULE], revision=2), True),
        (plan([ONE, TWO | {"bindingId": "bnd_new"}], [RULE], revision=2), True),
        (plan([ONE, TWO], revision=2), True),
        (plan([ONE, TWO], [RULE], default="passthrough", revision=2), True),
        (plan([ONE, TWO, route("new", ["open.test"], "con_one")], [RULE], revision=2), True),
        (plan([reaching(ONE, ports=[22]), TWO], [RULE], revision=2), True),
        (changed(organizationId="org_two"), True),
        (changed(mcpServers=mcp_servers()), True),
        # What will be refused.
        (b"", False),
        (b"[]", False),
        (b"{}", False),
        (b"[" * 100_000, False),
        (changed(egressRoutes=[1]), False),
        (changed(egressRoutes=[{"bindingId": []}]), False),
        (changed(egressRoutes=None), False),
    ],
)
def test_a_newer_plan(after: bytes, does: bool) -> None:
    assert takes_away(plan([ONE, TWO], [RULE]), after) is does
