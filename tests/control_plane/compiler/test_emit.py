"""A route gets its ids and nothing is null."""

from control_plane.compiler.emit import emit, rule_id
from control_plane.definitions.contract import (
    BindingContext,
    Compiled,
    Connection,
    CredentialHeader,
    MethodKind,
    Nothing,
    Route,
    Target,
)
from control_plane.definitions.linear.default import DEFINITION

CONTEXT = BindingContext(
    target=Target(key="linear-default", config=Nothing()),
    connection=Connection(id="con_1", method=MethodKind.API_KEY, config=Nothing()),
    binding_id="bnd_1",
    config=Nothing(),
)


def test_a_route_gets_what_the_definition_leaves_out() -> None:
    route = Route(key="api", hosts=("api.example.com",), auth_injection={"type": "bearer"})
    [found] = emit(DEFINITION, CONTEXT, Compiled(routes=[route])).egress_routes
    assert found == {
        "egressRuleId": rule_id("bnd_1", "api"),
        "bindingId": "bnd_1",
        "familyId": "linear",
        "variantId": "linear-default",
        "match": {"hosts": ["api.example.com"]},
        "authInjection": {"type": "bearer"},
        "credentialResolver": {"kind": "integration_connection", "connectionId": "con_1", "secretType": "api_key"},
    }


def test_all_that_is_given_is_written_in_the_words_of_the_plan() -> None:
    route = Route(
        key="all",
        hosts=["a.example"],
        methods=("GET",),
        path_prefixes=("/v1",),
        ports=(8443,),
        base_url="https://b.example",
        auth_injection={"type": "bearer"},
        secret_type="other",
        slot_key="slot",
        resolver_key="made",
        placeholders=({"value": "placeholder-1", "in": ("header",)},),
        additional_headers={"X-A": "1"},
        additional_credential_headers=[CredentialHeader(header="X-B", secret_type="second", slot_key="s")],
        keep_headers=("Accept",),
        strip_query=("key",),
        limits={"maxConcurrent": 1},
        encoded_slash="literal",
        allow_cleartext=True,
    )
    [found] = emit(DEFINITION, CONTEXT, Compiled(routes=[route])).egress_routes
    assert found["match"] == {
        **{"hosts": ["a.example"], "ports": [8443], "methods": ["GET"]},
        **{"pathPrefixes": ["/v1"], "encodedSlash": "literal"},
    }
    assert found["upstream"] == {"baseUrl": "https://b.example"}
    assert found["credentialResolver"] == {
        **{"kind": "integration_connection", "connectionId": "con_1", "secretType": "other"},
        **{"slotKey": "slot", "resolverKey": "made"},
    }
    second = {"kind": "integration_connection", "connectionId": "con_1", "secretType": "second", "slotKey": "s"}
    assert found["additionalCredentialHeaders"] == [{"header": "X-B", "credentialResolver": second}]
    assert found["placeholders"] == [{"value": "placeholder-1", "in": ["header"]}]
    assert found["additionalHeaders"] == {"X-A": "1"}
    assert (found["keepHeaders"], found["stripQuery"]) == (["Accept"], ["key"])
    assert (found["limits"], found["allowCleartext"]) == ({"maxConcurrent": 1}, True)


def test_an_agent_runtime_gets_its_binding() -> None:
    compiled = Compiled(agent_runtimes=[{"runtimeKey": "codex"}], artifacts=[{"lifecycle": {"install": ()}}])
    emitted = emit(DEFINITION, CONTEXT, compiled)
    assert emitted.agent_runtimes == [{"bindingId": "bnd_1", "runtimeKey": "codex"}]
    assert emitted.artifacts == [{"lifecycle": {"install": []}}]
