"""The gateway as a subject: standalone, everything on, one process."""

import importlib.util
import secrets
import sys
from datetime import UTC, datetime
from importlib import metadata

import jwt
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from benchmarks.subject import Launch, Site, free_port
from sallyport.plan.codec import seal

_SANDBOX_ID = "sbx_bench"
_ORGANIZATION_ID = "org_bench"
_TOKEN_SECONDS = 86_400
_ROUTES = 10
_CREDENTIAL_VARIABLE = "BENCH_CREDENTIAL"


class SallyportPure:
    """With the codec in Python."""

    name = "sallyport-pure"

    def missing(self) -> str | None:
        if importlib.util.find_spec("sallyport_cli") and importlib.util.find_spec("sallyport_cli.main"):
            return None
        return "sallyport_cli.main cannot be imported; run from the top of the source tree (`make setup`)"

    def version(self) -> str:
        try:
            return metadata.version("sallyport")
        except metadata.PackageNotFoundError:
            return "source tree"

    def prepare(self, site: Site) -> Launch:
        proxy, admin = free_port(), free_port()
        key = Ed25519PrivateKey.generate()
        public_key = site.directory / "public.pem"
        public_key.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        plan = site.directory / "plan.json"
        plan.write_bytes(seal(plan_document(site.host)))
        config = site.directory / "gateway.yaml"
        config.write_text(
            yaml.safe_dump(
                {
                    "listen": {"proxy": f"127.0.0.1:{proxy}", "admin": f"127.0.0.1:{admin}"},
                    "plans": [str(plan)],
                    "credentials": {"con_bench": {"env": _CREDENTIAL_VARIABLE}},
                    "tokens": {"public_key": str(public_key)},
                    "interception": {"ca_dir": str(site.directory / "ca")},
                    "upstream": {"connect_to": {f"{site.host}:80": f"127.0.0.1:{site.origin_port}"}},
                    "network": {"allow": ["127.0.0.0/8"]},
                    "scrub": {"enabled": True},
                    # As nginx here; with fewer than there are downstream links, idle ones are closed and dialled again.
                    "limits": {"links_per_key": 256, "idle_links_per_key": 256},
                    "audit": {"path": str(site.directory / "audit.jsonl")},
                }
            )
        )
        program = (sys.executable, "-m", "sallyport_cli.main", "gateway", "--config", str(config))
        return Launch(
            command=("env", f"{_CREDENTIAL_VARIABLE}={site.credential}", *program),
            port=proxy,
            proxy_token=_proxy_token(key),
        )


def plan_document(host: str) -> dict[str, object]:
    """Return a plan of ten routes, of which one, in the middle, claims the origin."""
    hosts = [f"api{number}.bench.test" for number in range(_ROUTES)]
    hosts[_ROUTES // 2] = host
    document: dict[str, object] = {
        "schemaVersion": 1,
        "sandboxProfileId": "sbp_bench",
        "version": 1,
        "organizationId": _ORGANIZATION_ID,
        "sandboxId": _SANDBOX_ID,
        "revision": 1,
        "image": {"source": "base", "imageRef": "bench"},
        "egress": {"default": "deny", "managedPassthrough": "deny", "rules": []},
        "egressRoutes": [_route(number, name) for number, name in enumerate(hosts)],
    }
    for empty in ("artifacts", "workspaceSources", "runtimeClients", "agentRuntimes", "mcpServers"):
        document[empty] = []
    return document


def _route(number: int, host: str) -> dict[str, object]:
    return {
        "egressRuleId": f"rule_{number}",
        "bindingId": f"bnd_{number}",
        "familyId": "bench",
        "variantId": "bench",
        "match": {"hosts": [host], "methods": ["GET", "POST"], "pathPrefixes": ["/v1"]},
        "authInjection": {"type": "bearer"},
        "credentialResolver": {
            "kind": "integration_connection",
            "connectionId": "con_bench",
            "secretType": "api_key",
        },
        "allowCleartext": True,
    }


def _proxy_token(key: Ed25519PrivateKey) -> str:
    now = int(datetime.now(UTC).timestamp())
    claims = {
        "iss": "sallyport",
        "aud": "sallyport-proxy",
        "sub": _SANDBOX_ID,
        "org": _ORGANIZATION_ID,
        "sid": "sid_bench",
        "iat": now,
        "nbf": now,
        "exp": now + _TOKEN_SECONDS,
        "jti": f"jti_{secrets.token_hex(8)}",
    }
    return jwt.encode(claims, key, algorithm="EdDSA")
