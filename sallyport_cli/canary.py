"""The canary: a request with a placeholder, to an origin of ours that says which credential arrived.

The gateway of the canary has the operator's own limits, timeouts and scrubbing, but a plan, a credential, keys and a
CA of its own, all made for this one request; so nothing real is at stake, and what is proved is the way a real
credential goes. The origin listens on loopback and stands for a host that no resolver knows.
"""

import asyncio
import datetime
import json
import secrets
import ssl
from collections.abc import Mapping
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from control_client.gateway import GatewayError, request_through
from sallyport.net.tls import TlsTransport
from sallyport.net.transports import listen
from sallyport.plan.codec import seal
from sallyport_cli.failure import Failure
from sallyport_cli.files import create_file
from sallyport_cli.finding import Finding, failed, ok
from sallyport_cli.reach import started
from sallyport_cli.settings import read_document
from sallyport_cli.trust import write_trust

TRUST = "intercepted TLS"
CANARY = "canary request"

# RFC 6761: a name under .test is nobody's.
HOST = "canary.sallyport.test"
VARIABLE = "SALLYPORT_DOCTOR_CANARY"
# What the canary's gateway does not take from the settings: it has its own, or they would lead it elsewhere.
OWN_SECTIONS = ("listen", "plans", "credentials", "tokens", "interception", "upstream", "network", "audit", "log")
# One request head; more is not ours.
MAX_HEAD_BYTES = 64 * 1024


class CanaryOrigin(asyncio.Protocol):
    """Keep every byte that arrives and answer each request head. One object per origin; TLS is below it."""

    def __init__(self) -> None:
        self.received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note where the answer goes."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer once a whole head is there."""
        self.received = (self.received + data)[:MAX_HEAD_BYTES]
        if self._transport is not None and self.received.endswith(b"\r\n\r\n"):
            self._transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")


def judge(received: bytes, credential: str, placeholder: str) -> Finding:
    """Say from what the origin received whether injection works. The head itself is never shown."""
    lines = received.split(b"\r\n")
    wanted = b"authorization: bearer " + credential.encode()
    if not received:
        return failed(CANARY, "nothing arrived at the origin", "see the gateway's answer above and its log")
    if placeholder.encode() in received:
        return failed(CANARY, "the placeholder went out on the wire", "do not use this gateway; report this as a fault")
    if sum(line.lower() == wanted.lower() for line in lines) != 1 or received.count(credential.encode()) != 1:
        return failed(CANARY, "the real credential did not arrive as it should", "report this as a fault")
    return ok(CANARY, "the origin received the real credential once, and no placeholder")


async def send_canary(config: Path, inherited: Mapping[str, str], directory: Path) -> list[Finding]:
    """Start origin and gateway, send the one request, judge it. The findings are on trust and injection."""
    credential, placeholder = (f"canary-{secrets.token_hex(16)}" for _ in range(2))
    certificate, key = _origin_certificate(directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    origin = CanaryOrigin()

    def accept() -> asyncio.Protocol:
        return _Accepted(origin, context)

    listener = await listen("127.0.0.1", 0, accept)
    await listener.start()
    try:
        plan = directory / "canary-plan.json"
        create_file(plan, canary_plan(placeholder), mode=0o600)
        settings = directory / "canary.yaml"
        own = _own_settings(read_document(config), certificate, listener.port)
        create_file(settings, json.dumps(own).encode(), mode=0o600)
        environment = _own_environment(inherited) | {VARIABLE: credential}
        refused = await asyncio.to_thread(_ask, settings, plan, environment, directory, placeholder)
    finally:
        await listener.close()
    if refused is not None:
        return [refused]
    trust = ok(TRUST, "the certificate of an intercepted host verifies against the bundle")
    return [trust, judge(origin.received, credential, placeholder)]


def canary_plan(placeholder: str) -> bytes:
    """Return a sealed plan with one route, that claims every request to the canary's host."""
    route = {
        "egressRuleId": "egr_canary",
        "bindingId": "bnd_canary",
        "familyId": "canary",
        "variantId": "default",
        "match": {"hosts": [HOST]},
        "authInjection": {"type": "bearer"},
        "credentialResolver": {"kind": "integration_connection", "connectionId": "con_canary", "secretType": "api_key"},
        "placeholders": [{"value": placeholder, "in": ["header"]}],
    }
    document = {
        "schemaVersion": 1,
        "sandboxProfileId": "prf_canary",
        "version": 1,
        "organizationId": "org_canary",
        "sandboxId": "sbx_canary",
        "revision": 1,
        "image": {"source": "base", "imageRef": "none"},
        "egress": {"default": "deny", "managedPassthrough": "deny", "rules": []},
        "egressRoutes": [route],
        **{name: [] for name in ("artifacts", "workspaceSources", "runtimeClients", "agentRuntimes", "mcpServers")},
    }
    return seal(document)


class _Accepted(asyncio.Protocol):
    """An accepted socket of the origin: TLS goes on top at once."""

    def __init__(self, origin: CanaryOrigin, context: ssl.SSLContext) -> None:
        self._origin = origin
        self._context = context

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)

        def handshake_ended(error: Exception | None) -> None:
            if error is not None:
                transport.close()

        TlsTransport(transport, self._origin, self._context, server_side=True, on_handshake=handshake_ended).start()


def _ask(
    settings: Path, plan: Path, environment: Mapping[str, str], directory: Path, placeholder: str
) -> Finding | None:
    """Send the request through a gateway of its own; return what went wrong on the way, None if it was answered."""
    try:
        with started(directory / "canary", environment, config=settings, plan=plan, sandbox=None, key=None) as reach:
            trust = write_trust(directory / "canary-trust", reach.ca_pem, environment)
            context = ssl.create_default_context(cafile=str(trust.bundle))
            headers = {"Authorization": f"Bearer {placeholder}"}
            answer = request_through(
                reach.proxy_address, reach.token, f"https://{HOST}/v1/canary", headers=headers, trust=context
            )
            if answer.status == 204:
                return None
            log = "" if reach.started is None else reach.started.log_tail()
            return failed(CANARY, f"the gateway answered {answer.status}: {_code(answer.body)}", log)
    except ssl.SSLCertVerificationError as error:
        remedy = "look at the clocks of both machines and at the roots that SSL_CERT_FILE names"
        return failed(TRUST, f"a certificate of the gateway's is refused: {error.verify_message}", remedy)
    except GatewayError as error:
        return failed(CANARY, str(error), "see the gateway's log")
    except Failure as failure:
        return failed(CANARY, f"its gateway does not start: {failure.message}", failure.hint)


def _code(body: bytes) -> str:
    try:
        return str(json.loads(body)["code"])
    except (ValueError, KeyError, TypeError):
        return "an answer without a code"


def _own_settings(document: Mapping[str, object], certificate: Path, port: int) -> dict[str, object]:
    kept = {name: value for name, value in document.items() if name not in OWN_SECTIONS}
    return kept | {
        "credentials": {"con_canary": {"env": VARIABLE}},
        "upstream": {"ca_file": str(certificate), "connect_to": {f"{HOST}:443": f"127.0.0.1:{port}"}},
        "network": {"allow": ["127.0.0.1/32"]},
        "audit": {"path": "off"},
    }


def _own_environment(inherited: Mapping[str, str]) -> dict[str, str]:
    replaced = tuple(f"SALLYPORT_{section.upper()}" for section in OWN_SECTIONS)
    return {name: value for name, value in inherited.items() if not name.startswith(replaced)}


def _origin_certificate(directory: Path) -> tuple[Path, Path]:
    """Make the certificate that the canary's gateway will verify, and trust nothing else by."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    today = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(hours=1))
        .not_valid_after(today + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = directory / "origin.pem", directory / "origin.key"
    create_file(files[0], certificate.public_bytes(Encoding.PEM), mode=0o600)
    create_file(files[1], key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), mode=0o600)
    return files
