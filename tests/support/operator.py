"""What an operator does at the control plane that `sallyport up` started: sandboxes, connections, plans, tokens."""

import json
import time
from pathlib import Path
from typing import Any

from control_client.documents import DocumentSession
from tests.support.up_process import UpProcess

# How long a revocation of a test lasts: longer than any token of it.
REVOKED_SECONDS = 2 * 24 * 3600


class Operator:
    """One operator. Every method raises DocumentError where the control plane refuses."""

    def __init__(self, up: UpProcess) -> None:
        self.session = DocumentSession(
            up.addresses["controlPlane"], self.service_token(up.data_dir, "cli"), timeout_seconds=20
        )

    @staticmethod
    def service_token(data_dir: Path, caller: str) -> str:
        """Return the service token of a caller of the control plane."""
        return (data_dir / "control-plane" / f"service-token.{caller}").read_text().strip()

    def make_sandbox(self, sandbox_id: str, organization_id: str) -> None:
        """Make a sandbox."""
        self.session.post("/v1/sandboxes", {"sandboxId": sandbox_id, "organizationId": organization_id})

    def delete_sandbox(self, sandbox_id: str) -> None:
        """Delete a sandbox, which revokes it."""
        self.session.ask("DELETE", f"/v1/sandboxes/{sandbox_id}")

    def make_connection(self, organization_id: str, connection_id: str, value: str, name: str = "the API") -> None:
        """Make a connection with an API key."""
        self.session.post(
            "/v1/integration/connections/hand-made/api-key",
            {
                "organizationId": organization_id,
                "connectionId": connection_id,
                "displayName": name,
                "secretType": "api_key",
                "value": value,
            },
        )

    def set_status(self, connection_id: str, status: str) -> None:
        """Set a connection's status."""
        body = json.dumps({"status": status}).encode()
        self.session.ask("PATCH", f"/v1/integration/connections/{connection_id}", body)

    def make_profile(self, organization_id: str) -> str:
        """Make a profile with an empty version 1, and return the path of that version."""
        profile = self.session.post("/v1/sandbox/profiles", {"organizationId": organization_id})
        path = f"/v1/sandbox/profiles/{profile['sandboxProfileId']}/versions"
        self.session.post(path, {})
        return f"{path}/1"

    def bind(self, version: str, bindings: list[dict[str, object]]) -> None:
        """Replace the bindings of a version."""
        self.session.ask("PUT", f"{version}/integration-bindings", json.dumps({"bindings": bindings}).encode())

    def put_plan(self, plan: bytes) -> None:
        """Put a plan in force."""
        document = json.loads(plan)
        self.session.post(f"/v1/sandboxes/{document['sandboxId']}/plans", document)

    def mint(self, sandbox_id: str, kind: str = "tunnel", ttl_seconds: int | None = None) -> dict[str, Any]:
        """Mint tokens: `token`, and with a tunnel token a `renewalToken`."""
        asked = {"kind": kind} | ({} if ttl_seconds is None else {"ttlSeconds": ttl_seconds})
        return self.session.post(f"/v1/sandboxes/{sandbox_id}/tokens", asked)

    def revoke(self, kind: str, revoked_id: str) -> None:
        """Revoke."""
        until = time.time_ns() // 10**9 + REVOKED_SECONDS
        self.session.post("/v1/revocations", {"kind": kind, "id": revoked_id, "until": until})
