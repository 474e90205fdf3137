"""Plan documents, and what is decided with them.

The input is a document; where it is a JSON object it is sealed as well, so that the digest does not hide what comes
after it. Allowed outcomes:
- PlanError with at least one issue, each with a pointer into the document;
- a plan: its table compiles, its digest is its document's, sealing it again changes no byte, and every request is
  classified as one of the decisions, a credential never without https.
"""

import json
from collections.abc import Sequence

from gateway.core.classify import classify
from gateway.core.decision import Deny, Forward
from gateway.core.route_table import InjectRoute, RouteTable
from sallyport.destination import Destination
from sallyport.plan.codec import Issue, PlanError, parse_plan, plan_digest, seal
from tests.support.fuzzing import run
from tests.support.plan_documents import plan_document, route_document, rule_document

RICH = route_document(
    "rich",
    match={"hosts": ["*.example.com"], "ports": [443, 8443], "methods": ["GET"], "pathPrefixes": ["/v1"]},
    authInjection={"type": "query", "parameter": "key"},
    additionalHeaders={"X-Version": "1"},
    placeholders=[{"value": "sp-placeholder-1", "in": ["header", "query"]}],
    keepHeaders=["Cookie"],
    stripQuery=["sig"],
    limits={"maxRequestBodyBytes": 10},
)
RULES = (rule_document("no", "deny", "bad.example", reason="r"), rule_document("ro", "allow", methods=["GET"]))
SEEDS = (
    seal(plan_document()),
    seal(plan_document([route_document(), RICH], RULES, default="deny")),
    json.dumps(plan_document([route_document(upstream={"baseUrl": "https://b.example"})]), indent=1).encode(),
    b'{"schemaVersion": 1, "schemaVersion": 1}',
    b"[[[[[[[[[[[[[[[[",
)
HOSTS = ("api.example.com", "bad.example", "b.example", "127.0.0.1")
PATHS = (b"/", b"/v1/x", b"/v1%2Fx", b"/../v1", b"//")


def check(data: bytes) -> None:
    """Check one input."""
    check_document(data)
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(document, dict):
        try:
            sealed = seal(document)
        except (ValueError, RecursionError):
            return
        check_document(sealed)


def check_document(data: bytes) -> None:
    """It is refused with issues, or it is a plan that decides."""
    try:
        plan = parse_plan(data)
    except PlanError as error:
        check_issues(error.issues)
        return
    document = json.loads(data)
    assert plan.digest == document["digest"] == plan_digest(document)
    assert seal(document) == seal(json.loads(seal(document)))
    table = RouteTable(plan)
    for scheme, port in (("https", 443), ("http", 80), ("https", 8443)):
        for host in HOSTS:
            for path in PATHS:
                decision = classify(table, Destination(scheme, host, port), "GET", path).decision
                assert isinstance(decision, InjectRoute | Forward | Deny)
                if isinstance(decision, InjectRoute):
                    assert scheme == "https" or decision.allow_cleartext


def check_issues(issues: Sequence[Issue]) -> None:
    """There is at least one, and each says where."""
    assert issues
    assert all(issue.pointer == "" or issue.pointer.startswith("/") for issue in issues)


if __name__ == "__main__":
    run(check, SEEDS)
