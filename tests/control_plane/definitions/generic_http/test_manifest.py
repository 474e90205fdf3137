"""The document of a manifest: strict, and every fault with its place."""

from typing import Any

import pytest

from control_plane.definitions.generic_http.manifest import Manifest
from tests.support.integrations import faults, small_manifest


def test_the_smallest_manifest() -> None:
    manifest = Manifest.model_validate(small_manifest())
    assert (manifest.logo_key, manifest.mcp_servers, manifest.artifacts) == ("generic-http", (), ())
    assert faults(small_manifest()) == {}


def test_every_fault_is_told_at_once() -> None:
    key = {
        "kind": "api-key",
        "label": "Key",
        "auth": {"type": "header", "header": "Host", "prefix": 7},
        "secrets": [{"secretType": "a/b", "label": "Key", "pattern": "("}],
    }
    route = {"key": "Api", "hosts": ["{x}"], "methods": [], "pathPrefixes": ["/v1"], "auth": {"type": "none"}}
    manifest = small_manifest(
        manifestVersion=2,
        kind="agent",
        surprise=True,
        connectionMethods=[key, {"kind": "redirect"}],
        routes=[route],
        mcpServers=[{"serverId": "s", "name": "s", "transport": {"type": "stdio"}}],
        targetVariables=[{"name": "Host", "type": "url", "label": ""}],
        artifacts=[{"artifactKey": "a", "name": "a", "lifecycle": {"install": [{"op": "exec", "args": []}]}}],
    )
    del manifest["displayName"]
    assert set(faults(manifest)) == {
        "/manifestVersion",
        "/kind",
        "/surprise",
        "/displayName",
        "/connectionMethods/0/auth/header",
        "/connectionMethods/0/auth/prefix",
        "/connectionMethods/0/secrets/0/secretType",
        "/connectionMethods/0/secrets/0/pattern",
        "/connectionMethods/1/kind",
        "/routes/0/key",
        "/routes/0/hosts/0",
        "/routes/0/methods",
        "/routes/0/auth/type",
        "/mcpServers/0/transport/command",
        "/targetVariables/0/name",
        "/targetVariables/0/type",
        "/targetVariables/0/label",
        "/artifacts/0/lifecycle/install/0/args",
        "/artifacts/0/lifecycle/install/0/timeoutMs",
    }


def test_no_fault_repeats_a_value() -> None:
    manifest = small_manifest(familyId="Canary Canary", displayName=["canary"], logoKey="canary\n")
    assert "anary" not in "".join(faults(manifest).values())


@pytest.mark.parametrize("member", ["connectionMethods", "routes"])
def test_what_a_manifest_cannot_do_without(member: str) -> None:
    empty: Any = []
    assert set(faults(small_manifest(**{member: empty}))) == {f"/{member}"}
