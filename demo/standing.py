"""What an operator writes once: the plan, and what the gateway has to know of the origins of this run."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from demo import git_server, github_api, openai_api
from demo.origins import DENIED_HOST, Credentials, Origins
from sallyport.plan.codec import seal

DENIED_REASON = "paste sites are where secrets leave by"
OPENAI_VARIABLE = "DEMO_OPENAI_KEY"
GITHUB_VARIABLE = "DEMO_GITHUB_TOKEN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The files that were written. No secret stands in either."""

    plan: Path
    gateway_settings: Path


def write_standing(folder: Path, origins: Origins) -> Standing:
    """Write plan.json and gateway.yaml into the folder."""
    plan = folder / "plan.json"
    plan.write_bytes(seal(plan_document()))
    settings = {
        # Only here, because the origins are ours: their CA, their ports, and that loopback may be dialled at all.
        "upstream": {"ca_file": str(origins.files.ca_file), "connect_to": origins.connect_to()},
        "network": {"allow": ["127.0.0.0/8"]},
    }
    path = folder / "gateway.yaml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    return Standing(plan=plan, gateway_settings=path)


# The connections of the plan and where `sallyport up` finds their values, which go into the vault.
PLACES = ("con_openai=env:" + OPENAI_VARIABLE, "con_github=env:" + GITHUB_VARIABLE)


def credential_variables(credentials: Credentials) -> dict[str, str]:
    """Return the variables from which `sallyport up` takes the credentials."""
    return {OPENAI_VARIABLE: credentials.openai_key, GITHUB_VARIABLE: credentials.github_token}


def plan_document() -> dict[str, object]:
    """Return the plan: three routes, one denied host, and the rest passes through untouched."""
    return {
        "schemaVersion": 1,
        "sandboxProfileId": "prf_demo",
        "version": 1,
        "organizationId": "org_demo",
        "sandboxId": "sbx_demo",
        "revision": 1,
        "image": {"source": "base", "imageRef": "demo/none:1"},
        "egress": {
            "default": "passthrough",
            "managedPassthrough": "deny",
            "rules": [{"ruleId": "no-paste", "action": "deny", "hosts": [DENIED_HOST], "reason": DENIED_REASON}],
        },
        "egressRoutes": [
            _route("openai", openai_api.HOST, "con_openai", {"type": "bearer"}, "/v1"),
            _route("github-api", github_api.HOST, "con_github", {"type": "bearer"}, "/"),
            _route(
                "github-git",
                git_server.HOST,
                "con_github",
                {"type": "basic", "username": "x-access-token"},
                f"/{git_server.REPOSITORY}",
            ),
        ],
        "artifacts": [],
        "workspaceSources": [],
        "runtimeClients": [],
        "agentRuntimes": [],
        "mcpServers": [],
    }


def _route(
    rule_id: str, host: str, connection_id: str, injection: dict[str, str], path_prefix: str
) -> dict[str, object]:
    return {
        "egressRuleId": rule_id,
        "bindingId": f"bnd_{rule_id}",
        "familyId": "demo",
        "variantId": "demo-default",
        "match": {"hosts": [host], "pathPrefixes": [path_prefix]},
        "authInjection": injection,
        "credentialResolver": {
            "kind": "integration_connection",
            "connectionId": connection_id,
            "secretType": "api_key",
        },
    }
