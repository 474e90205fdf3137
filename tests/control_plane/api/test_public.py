from pathlib import Path

import pytest

from tests.support.control_plane import Replica, client_of, replica, settings
from tests.support.integrations import put_package

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


async def test_a_package_that_is_left_out_is_named(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_package(tmp_path, "broken_integration", "raise RuntimeError", {"broken": "broken_integration:DEFINITION"})
    monkeypatch.syspath_prepend(tmp_path)
    async with replica(settings(tmp_path / "data", url)) as running, client_of(running.plane.port, "none") as client:
        assert (await client.get("/readyz")).json() == {"status": "ready", "integrationsLeftOut": ["broken"]}
