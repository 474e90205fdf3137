"""Sealed plans for a gateway under test: whole documents with the hosts and connections a test names."""

from collections.abc import Mapping, Sequence

from sallyport.plan.codec import seal
from tests.support.plan_documents import Document, plan_document, route_document, rule_document

SANDBOX = "sbx_one"
ORGANIZATION = "org_one"
BEARER: Mapping[str, object] = {"type": "bearer"}


def basic(username: str) -> Mapping[str, object]:
    """Inject as the password of basic authentication."""
    return {"type": "basic", "username": username}


def header(name: str) -> Mapping[str, object]:
    """Inject into one header, the secret alone."""
    return {"type": "header", "header": name}


def route(
    rule_id: str,
    hosts: Sequence[str],
    connection_id: str,
    injection: Mapping[str, object] = BEARER,
    **further: object,
) -> Document:
    """Return a route of these hosts; `further` replaces or adds members by their document names."""
    resolver = {"kind": "integration_connection", "connectionId": connection_id, "secretType": "api_key"}
    members: Document = {
        "bindingId": f"bnd_{rule_id}",
        "match": {"hosts": list(hosts)},
        "authInjection": dict(injection),
        "credentialResolver": resolver,
    }
    return route_document(rule_id, **(members | further))


def denied(rule_id: str, host: str, reason: str) -> Document:
    """Return a rule that refuses one host."""
    return rule_document(rule_id, "deny", host, reason=reason)


def plan(
    routes: Sequence[Document], rules: Sequence[Document] = (), *, default: str = "deny", revision: int = 1
) -> bytes:
    """Return a sealed plan of the sandbox that the tests' tokens speak for."""
    return seal(plan_document(routes, rules, default=default, revision=revision))
