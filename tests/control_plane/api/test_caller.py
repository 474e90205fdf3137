"""Who may ask: every path of /v1 and /internal wants a service token, and only a good one."""

import jwt
import pytest
from fastapi.routing import APIRoute

from control_plane.api import connections, internal, sandboxes
from tests.support.control_plane import SANDBOX, Replica, client_of

# What is tested here knows no database: one is enough.
pytestmark = pytest.mark.parametrize("url", ["sqlite"], indirect=True)

ROUTES = [
    (method, route.path)
    for module in (sandboxes, connections, internal)
    for route in module.router.routes
    if isinstance(route, APIRoute)
    for method in sorted(route.methods or ())
]


async def test_nothing_is_answered_without_a_token(api: Replica) -> None:
    assert len(ROUTES) > 25
    async with client_of(api.plane.port, "nonsense") as client:
        for method, path in ROUTES:
            for parameter in ("sandbox_id", "connection_id", "target_key", "profile_id", "gateway_id"):
                path = path.replace(f"{{{parameter}}}", "sbx_one" if parameter == "sandbox_id" else "con_one")
            path = path.replace("{revision}", "1").replace("{version}", "1")
            answer = await client.request(method, path)
            assert answer.status_code == 401, (method, path, answer.text)
            assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("header", [None, "", "Bearer", "Basic x", "Bearer a b", "bearer nonsense"])
async def test_headers_that_carry_no_token(api: Replica, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    async with client_of(api.plane.port, "x") as client:
        del client.headers["authorization"]
        answer = await client.get("/v1/sandboxes", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


async def test_tokens_of_sandboxes_open_nothing(api: Replica) -> None:
    await api.prepare(plan=False)
    minted = await api.ask("POST", f"/v1/sandboxes/{SANDBOX}/tokens", {"kind": "tunnel"}, status=201)
    for token in (minted["token"], minted["renewalToken"]):
        async with client_of(api.plane.port, token) as client:
            assert (await client.get("/v1/sandboxes")).status_code == 401


async def test_a_revoked_service_token_opens_nothing(api: Replica) -> None:
    token = api.client.headers["authorization"].removeprefix("Bearer ")
    claims = jwt.decode(token, options={"verify_signature": False})
    body = {"kind": "jti", "id": claims["jti"], "until": claims["exp"]}
    await api.ask("POST", "/v1/revocations", body, status=201)
    assert await api.refused("GET", "/v1/sandboxes") == "401 unauthorized"
