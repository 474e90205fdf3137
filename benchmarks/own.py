"""The gateway as a subject: standalone, everything on, one process. As it stands in the tree, and compiled."""

import importlib.util
import secrets
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from typing import Any

import jwt
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import OKPAlgorithm

from benchmarks.plan_pushes import PlanPushes
from benchmarks.subject import ROOT, Controlled, Door, Idle, Launch, SandboxSide, Site, free_ports
from benchmarks.workloads.registry import WORKLOADS
from benchmarks.workloads.routes import PLAN_SWAP
from benchmarks.workloads.workload import Way
from sallyport.net.interception import CaStore
from sallyport.plan.codec import seal

SANDBOX_ID = "sbx_bench"
_SANDBOXD_ID = "sbx_sandboxd"  # of the chain: a sandbox has one tunnel, and the load's own is another
_CONTROLLED_ID = "sbx_controlled"
_PUBLIC_KEY = "public.pem"
_KEY_ID = "bench"
_ORGANIZATION_ID = "org_bench"
_TOKEN_SECONDS = 86_400
_ROUTES = 10
_SWAPPED_ROUTES = PLAN_SWAP.plan_routes
_PLAN_SIZES = tuple(sorted({each.plan_routes for each in WORKLOADS.values()} - {0}))
# No route names it and a rule lets it pass: its bytes are opaque.
OPAQUE_HOST = "opaque.bench.test"
_CREDENTIAL_VARIABLE = "BENCH_CREDENTIAL"
_COMPILED_PYTHON = ROOT / ".venv-compiled" / "bin" / "python"
# What the installed gateway says of itself, on one line; the same words as in its log.
_ASK = "import gateway.build as p; from importlib.metadata import version as v; print(p.codec_kind(), v('sallyport'))"


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """How a gateway differs from the one that is measured everywhere; `ending` is that of its name."""

    ending: str
    is_scrubbing: bool = True
    workers: int = 1


USUAL = Variant(ending="")
UNSCRUBBED = Variant(ending="-unscrubbed", is_scrubbing=False)
TWO_WORKERS = Variant(ending="-2", workers=2)


class SallyportPure:
    """As it stands in the source tree, all of it Python."""

    def __init__(self, variant: Variant = USUAL) -> None:
        self.name = f"sallyport-pure{variant.ending}"
        self._variant = variant

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
        return prepare_gateway(site, (sys.executable,), self._variant)


class SallyportCompiled:
    """The wheel with the hot path compiled, in an environment of its own (`make compiled`)."""

    def __init__(self, variant: Variant = USUAL) -> None:
        self.name = f"sallyport{variant.ending}"
        self._variant = variant

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
        return prepare_gateway(site, (str(_COMPILED_PYTHON), "-I"), self._variant)


def prepare_gateway(site: Site, python: tuple[str, ...], variant: Variant) -> Launch:
    """Write a gateway's settings, and return how `python` starts it."""
    proxy, tunnel, admin = free_ports(3)
    key = Ed25519PrivateKey.generate()
    public_key = site.directory / _PUBLIC_KEY
    public_key.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    documents = [plan_document(site.host), plan_document(site.host, _SANDBOXD_ID)]
    documents += [plan_document(site.host, _sandbox_with(routes), routes) for routes in _PLAN_SIZES]
    plans = [site.directory / f"plan-{number}.json" for number in range(len(documents))]
    for path, document in zip(plans, documents, strict=True):
        path.write_bytes(seal(document))
    ca_dir = site.directory / "ca"
    CaStore(ca_dir).authority(SANDBOX_ID, datetime.now(UTC).timestamp())  # clients trust it before the first CONNECT
    settings = _settings(site, "gateway", proxy, admin) | {
        "workers": variant.workers,
        "plans": [str(path) for path in plans],
        "credentials": {"con_bench": {"env": _CREDENTIAL_VARIABLE}},
        "tokens": {"public_key": str(public_key)},
        "interception": {"ca_dir": str(ca_dir)},
        "scrub": {"enabled": variant.is_scrubbing},
    }
    settings["listen"] |= {"tunnel": f"127.0.0.1:{tunnel}"}
    program = _program(site, "gateway", python, settings)
    token = sign_token(key, "sallyport-proxy")
    return Launch(
        command=("env", f"{_CREDENTIAL_VARIABLE}={site.credential}", *program),
        port=proxy,
        proxy_token=token,
        doors={
            Way.TLS: Door(port=proxy, authority=f"{site.host}:443", token=token, ca_file=ca_dir / f"{SANDBOX_ID}.pem"),
            Way.OPAQUE: Door(port=proxy, authority=f"{OPAQUE_HOST}:443", token=token),
        },
        plan_tokens={routes: sign_token(key, "sallyport-proxy", _sandbox_with(routes)) for routes in _PLAN_SIZES},
        processes=variant.workers,
        idle=partial(_idle, site, python, key),
        controlled=_controlled(site, python, key),
        plan_pushes=PlanPushes(admin, _sandbox_with(_SWAPPED_ROUTES), partial(_swapped_plan, site.host)),
        sandbox=SandboxSide(
            tunnel_port=tunnel,
            load_token=sign_token(key, "sallyport-tunnel"),
            sandboxd_token=sign_token(key, "sallyport-tunnel", _SANDBOXD_ID),
            sandboxd=(*python, "-m", "sallyport_cli.main", "sandboxd"),
        ),
    )


def _settings(site: Site, name: str, proxy: int, admin: int) -> dict[str, Any]:
    """Return what every gateway here has."""
    return {
        "listen": {"proxy": f"127.0.0.1:{proxy}", "tunnel": "off", "admin": f"127.0.0.1:{admin}"},
        "upstream": upstream_settings(site),
        "network": {"allow": ["127.0.0.0/8"]},
        # As nginx here; with fewer than there are downstream links, idle ones are closed and dialled again.
        "limits": {"links_per_key": 256, "idle_links_per_key": 256},
        "audit": {"path": str(site.directory / f"{name}-audit.jsonl")},
    }


def _program(site: Site, name: str, python: tuple[str, ...], settings: dict[str, Any]) -> tuple[str, ...]:
    config = site.directory / f"{name}.yaml"
    config.write_text(yaml.safe_dump(settings))
    return (*python, "-m", "sallyport_cli.main", "gateway", "--config", str(config))


def _controlled(site: Site, python: tuple[str, ...], key: Ed25519PrivateKey) -> Controlled:
    """Write the settings of a gateway that has plan, keys and credential from a control plane."""
    proxy, admin = free_ports(2)
    service_token = site.directory / "service.token"
    service_token.write_text(f"service-{secrets.token_hex(16)}\n")
    service_token.chmod(0o600)
    settings = _settings(site, "controlled", proxy, admin) | {
        "control": {
            "token_file": str(service_token),
            "gateway_id": "gw_bench",
            "state_dir": str(site.directory / "state"),
        },
    }
    return Controlled(
        command=_program(site, "controlled", python, settings),
        told={
            "plan": seal(plan_document(site.host, _CONTROLLED_ID)).decode("utf-8"),
            "jwk": OKPAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": _KEY_ID},
            "credential": site.credential,
            "service_token": service_token.read_text().strip(),
        },
        port=proxy,
        admin_port=admin,
        proxy_token=sign_token(key, "sallyport-proxy", _CONTROLLED_ID, _KEY_ID),
    )


def _idle(site: Site, python: tuple[str, ...], key: Ed25519PrivateKey, tunnels: int, is_secure: bool) -> Idle:
    """Write the settings of a gateway that so many sandboxes, each with a plan of its own, come to with tunnels."""
    proxy, tunnel, admin = free_ports(3)
    sandboxes = [f"sbx_idle_{number}" for number in range(tunnels)]
    plans = [site.directory / f"{sandbox}.json" for sandbox in sandboxes]
    for path, sandbox in zip(plans, sandboxes, strict=True):
        path.write_bytes(seal(plan_document(site.host, sandbox, routes=1)))
    settings = _settings(site, "idle", proxy, admin) | {
        "plans": [str(path) for path in plans],
        "credentials": {"con_bench": {"env": _CREDENTIAL_VARIABLE}},
        "tokens": {"public_key": str(site.directory / _PUBLIC_KEY)},
    }
    settings["listen"] |= {"tunnel": f"127.0.0.1:{tunnel}"}
    if is_secure:
        shown = site.certificates
        settings["tunnel"] = {"tls": {"certificate_file": str(shown.leaf), "key_file": str(shown.leaf_key)}}
    return Idle(
        command=("env", f"{_CREDENTIAL_VARIABLE}={site.credential}", *_program(site, "idle", python, settings)),
        port=tunnel,
        tokens=[sign_token(key, "sallyport-tunnel", sandbox) for sandbox in sandboxes],
        ca_file=site.certificates.ca if is_secure else None,
    )


def upstream_settings(site: Site) -> dict[str, object]:
    """Return how the gateway finds the origin, in the clear and by TLS."""
    connect_to = {f"{site.host}:80": f"127.0.0.1:{site.origin_port}"}
    connect_to[f"{OPAQUE_HOST}:443"] = f"127.0.0.1:{site.origin_port}"
    connect_to[f"{site.host}:443"] = f"127.0.0.1:{site.origin_tls_port}"
    return {"connect_to": connect_to, "ca_file": str(site.origin_ca)}


def _swapped_plan(host: str, revision: int) -> bytes:
    return seal(plan_document(host, _sandbox_with(_SWAPPED_ROUTES), _SWAPPED_ROUTES, revision))


def _sandbox_with(routes: int) -> str:
    return f"sbx_routes_{routes}"


def plan_document(
    host: str, sandbox_id: str = SANDBOX_ID, routes: int = _ROUTES, revision: int = 1
) -> dict[str, object]:
    """Return a plan of so many routes, of which one, in the middle, claims the origin.

    The first half are of other hosts, the rest of the same host below other paths: both have to be told apart.
    """
    middle = routes // 2
    matches = [(f"api{number}.bench.test", "/v1") for number in range(middle)]
    matches += [(host, "/v1")]
    matches += [(host, f"/v1/models/other{number}") for number in range(middle + 1, routes)]
    document: dict[str, object] = {
        "schemaVersion": 1,
        "sandboxProfileId": "sbp_bench",
        "version": 1,
        "organizationId": _ORGANIZATION_ID,
        "sandboxId": sandbox_id,
        "revision": revision,
        "image": {"source": "base", "imageRef": "bench"},
        "egress": {"default": "deny", "managedPassthrough": "deny", "rules": [_OPAQUE_RULE]},
        "egressRoutes": [_route(number, *match) for number, match in enumerate(matches)],
    }
    for empty in ("artifacts", "workspaceSources", "runtimeClients", "agentRuntimes", "mcpServers"):
        document[empty] = []
    return document


_OPAQUE_RULE = {"ruleId": "rule_opaque", "action": "allow", "hosts": [OPAQUE_HOST]}


def _route(number: int, host: str, prefix: str) -> dict[str, object]:
    return {
        "egressRuleId": f"rule_{number}",
        "bindingId": f"bnd_{number}",
        "familyId": "bench",
        "variantId": "bench",
        "match": {"hosts": [host], "methods": ["GET", "POST"], "pathPrefixes": [prefix]},
        "authInjection": {"type": "bearer"},
        "credentialResolver": {
            "kind": "integration_connection",
            "connectionId": "con_bench",
            "secretType": "api_key",
        },
        "allowCleartext": True,
    }


def sign_token(key: Ed25519PrivateKey, audience: str, sandbox_id: str = SANDBOX_ID, key_id: str | None = None) -> str:
    """Sign a token that the gateways of a run accept, for a day."""
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
    return jwt.encode(claims, key, algorithm="EdDSA", headers={"kid": key_id} if key_id else None)
