"""The gateway as a subject: standalone, everything on, one process. As it stands in the tree, and compiled."""

import importlib.util
import secrets
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata

import jwt
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from benchmarks.subject import ROOT, Launch, SandboxSide, Site, free_port
from sallyport.plan.codec import seal

_SANDBOX_ID = "sbx_bench"
_SANDBOXD_ID = "sbx_sandboxd"  # of the chain: a sandbox has one tunnel, and the load's own is another
_ORGANIZATION_ID = "org_bench"
_TOKEN_SECONDS = 86_400
_ROUTES = 10
_CREDENTIAL_VARIABLE = "BENCH_CREDENTIAL"
_COMPILED_PYTHON = ROOT / ".venv-compiled" / "bin" / "python"
# What the installed gateway says of itself, on one line; the same words as in its log.
_ASK = (
    "import gateway.starting as p; from importlib.metadata import version as v; print(p.codec_kind(), v('sallyport'))"
)


class SallyportPure:
    """As it stands in the source tree, all of it Python."""

    name = "sallyport-pure"

    def missing(self) -> str | None:
        if importlib.util.find_spec("sallyport_cli") and importlib.util.find_spec("sallyport_cli.main"):
            return None
        return "sallyport_cli.main cannot be imported; run from the top of the source tree (`make setup`)"

    def version(self) -> str:
        try:
            return f"{metadata.version('sallyport')} pure"
        except metadata.PackageNotFoundError:
            return "source tree, pure"

    def prepare(self, site: Site) -> Launch:
        return prepare_gateway(site, (sys.executable,))


class SallyportCompiled:
    """The wheel with the hot path compiled, in an environment of its own (`make compiled`)."""

    name = "sallyport"

    def missing(self) -> str | None:
        if not _COMPILED_PYTHON.exists():
            return "there is no compiled wheel (`make compiled`; it needs a C compiler)"
        said = self.version()
        if not said.endswith(" compiled"):
            return f"the wheel in .venv-compiled is not compiled: {said or 'it does not import'} (`make compiled`)"
        return None

    def version(self) -> str:
        # -I: neither this tree nor a variable may put other sources before the wheel.
        command = [str(_COMPILED_PYTHON), "-I", "-c", _ASK]
        kind, _, version = subprocess.run(command, capture_output=True, text=True, check=False).stdout.partition(" ")
        return f"{version.strip()} {kind}" if version else ""

    def prepare(self, site: Site) -> Launch:
        return prepare_gateway(site, (str(_COMPILED_PYTHON), "-I"))


def prepare_gateway(site: Site, python: tuple[str, ...]) -> Launch:
    """Write a gateway's settings, and return how `python` starts it."""
    proxy, tunnel, admin = free_port(), free_port(), free_port()
    key = Ed25519PrivateKey.generate()
    public_key = site.directory / "public.pem"
    public_key.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    plans = {name: site.directory / f"{name}.json" for name in (_SANDBOX_ID, _SANDBOXD_ID)}
    for name, path in plans.items():
        path.write_bytes(seal(plan_document(site.host, name)))
    config = site.directory / "gateway.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "listen": {
                    "proxy": f"127.0.0.1:{proxy}",
                    "tunnel": f"127.0.0.1:{tunnel}",
                    "admin": f"127.0.0.1:{admin}",
                },
                "plans": [str(path) for path in plans.values()],
                "credentials": {"con_bench": {"env": _CREDENTIAL_VARIABLE}},
                "tokens": {"public_key": str(public_key)},
                "interception": {"ca_dir": str(site.directory / "ca")},
                "upstream": upstream_settings(site),
                "network": {"allow": ["127.0.0.0/8"]},
                "scrub": {"enabled": True},
                # As nginx here; with fewer than there are downstream links, idle ones are closed and dialled again.
                "limits": {"links_per_key": 256, "idle_links_per_key": 256},
                "audit": {"path": str(site.directory / "audit.jsonl")},
            }
        )
    )
    program = (*python, "-m", "sallyport_cli.main", "gateway", "--config", str(config))
    return Launch(
        command=("env", f"{_CREDENTIAL_VARIABLE}={site.credential}", *program),
        port=proxy,
        proxy_token=_token(key, "sallyport-proxy"),
        sandbox=SandboxSide(
            tunnel_port=tunnel,
            load_token=_token(key, "sallyport-tunnel"),
            sandboxd_token=_token(key, "sallyport-tunnel", _SANDBOXD_ID),
            sandboxd=(*python, "-m", "sallyport_cli.main", "sandboxd"),
        ),
    )


def upstream_settings(site: Site) -> dict[str, object]:
    """Return how the gateway finds the origin, in the clear and by TLS."""
    connect_to = {f"{site.host}:80": f"127.0.0.1:{site.origin_port}"}
    if site.origin_ca is None:
        return {"connect_to": connect_to}
    connect_to[f"{site.host}:443"] = f"127.0.0.1:{site.origin_tls_port}"
    return {"connect_to": connect_to, "ca_file": str(site.origin_ca)}


def plan_document(host: str, sandbox_id: str = _SANDBOX_ID) -> dict[str, object]:
    """Return a plan of ten routes, of which one, in the middle, claims the origin."""
    hosts = [f"api{number}.bench.test" for number in range(_ROUTES)]
    hosts[_ROUTES // 2] = host
    document: dict[str, object] = {
        "schemaVersion": 1,
        "sandboxProfileId": "sbp_bench",
        "version": 1,
        "organizationId": _ORGANIZATION_ID,
        "sandboxId": sandbox_id,
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


def _token(key: Ed25519PrivateKey, audience: str, sandbox_id: str = _SANDBOX_ID) -> str:
    now = int(datetime.now(UTC).timestamp())
    claims = {
        "iss": "sallyport",
        "aud": audience,
        "sub": sandbox_id,
        "org": _ORGANIZATION_ID,
        "sid": "sid_bench",
        "iat": now,
        "nbf": now,
        "exp": now + _TOKEN_SECONDS,
        "jti": f"jti_{secrets.token_hex(8)}",
    }
    return jwt.encode(claims, key, algorithm="EdDSA")
