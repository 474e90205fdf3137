import pytest

from tests.support.control_plane import Replica, client_of

# What is tested here knows no database: one is enough.
pytestmark = pytest.mark.parametrize("url", ["sqlite"], indirect=True)


async def test_what_needs_no_token(api: Replica) -> None:
    async with client_of(api.plane.port, "") as client:
        del client.headers["authorization"]
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        assert (await client.get("/readyz")).json() == {"status": "ready"}
        jwks = await client.get("/.well-known/jwks.json")
        [key] = jwks.json()["keys"]
        assert (key["kty"], key["crv"], key["use"], key["alg"]) == ("OKP", "Ed25519", "sig", "EdDSA")
        assert "d" not in key
        assert jwks.headers["cache-control"] == "public, max-age=300"
        assert (await client.get("/openapi.json")).status_code == 200
        assert (await client.get("/docs")).status_code == 404
