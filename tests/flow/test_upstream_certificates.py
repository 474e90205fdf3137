"""A4: an upstream that cannot prove its name is never spoken to, by whatever its certificate lacks, both ways."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.support.egress_ways import WAYS, Way, both_ways
from tests.support.gateway_plans import plan, route
from tests.support.gateway_process import GatewayProcess, Setting, gateway_process
from tests.support.origin import RecordingOrigin, recording_origin

pytestmark = pytest.mark.timeout(120)

SECRET = "credential-for-proven-upstreams"
DAY = timedelta(days=1)
SIGNS = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """Who signs leaves."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def make(cls, name: str) -> "Authority":
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        built = certificate(subject, subject, key.public_key(), datetime.now(UTC) - DAY, datetime.now(UTC) + DAY)
        built = built.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        built = built.add_extension(SIGNS, critical=True)
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        return cls(certificate=built.add_extension(identifier, critical=False).sign(key, hashes.SHA256()), key=key)

    def context(self, folder: Path, host: str, *, begins: timedelta = -DAY, ends: timedelta = DAY) -> SSLContext:
        """Return a server context with a leaf for host that is good from `begins` to `ends`, as seen from now."""
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        built = certificate(subject, self.certificate.subject, key.public_key(), now + begins, now + ends)
        names = x509.SubjectAlternativeName([x509.DNSName(host)])
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        leaf = built.add_extension(names, critical=False).add_extension(signer, critical=False)
        file = folder / f"{host}.{begins.days}.{ends.days}.pem"
        file.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            + leaf.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)
        )
        context = SSLContext(PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


def certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, begins_at: datetime, ends_at: datetime
) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number(), begins_at, ends_at)


# What is wrong, by the host it is wrong at, and as the gateway's log has it.
WRONG = {
    "expired.test": "certificate has expired",
    "early.test": "certificate is not yet valid",
    "unknown.test": "unable to get local issuer certificate",
    "named.test": "Hostname mismatch",
}
GOOD = "good.test"


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[tuple[GatewayProcess, dict[str, RecordingOrigin]]]:
    known, stranger = Authority.make("known to the gateway"), Authority.make("known to nobody")
    (tmp_path / "ca.pem").write_bytes(known.certificate.public_bytes(Encoding.PEM))
    contexts = {
        GOOD: known.context(tmp_path, GOOD),
        "expired.test": known.context(tmp_path, "expired.test", begins=-3 * DAY, ends=-DAY),
        "early.test": known.context(tmp_path, "early.test", begins=DAY, ends=3 * DAY),
        "unknown.test": stranger.context(tmp_path, "unknown.test"),
        "named.test": known.context(tmp_path, "another.test"),
    }
    async with AsyncExitStack() as stack:
        origins = {host: await stack.enter_async_context(recording_origin(tls)) for host, tls in contexts.items()}
        setting = Setting(
            plan=plan([route("r", list(contexts), "con_one")]),
            credentials={"con_one": SECRET},
            connect_to={f"{host}:443": f"127.0.0.1:{origin.port}" for host, origin in origins.items()},
            ca_file=tmp_path / "ca.pem",
        )
        process = gateway_process(tmp_path / "gateway", setting)
        gateway = await asyncio.to_thread(process.__enter__)
        try:
            yield gateway, origins
        finally:
            await asyncio.to_thread(process.__exit__, None, None, None)


async def test_a4_an_expired_or_early_certificate_an_unknown_authority_and_another_name_are_502(
    scene: tuple[GatewayProcess, dict[str, RecordingOrigin]],
) -> None:
    gateway, origins = scene
    async with both_ways(gateway) as ways:
        for name in WAYS:
            assert await asked(ways[name], GOOD) == (200, "")
            for host in WRONG:
                assert await asked(ways[name], host) == (502, "upstream_unreachable"), host
    assert all(origins[host].received == b"" for host in WRONG), "nothing was sent, the credential least of all"
    failed = await asyncio.to_thread(gateway.told, "upstream_failed", len(WAYS) * len(WRONG))
    for host, reason in WRONG.items():
        assert [reason in line["detail"] for line in failed if line["upstream"] == f"{host}:443"] == [True, True]
    assert origins[GOOD].received.count(SECRET.encode()) == len(WAYS)


async def asked(way: Way, host: str) -> tuple[int, str]:
    end = await way.inside(f"{host}:443", host)
    end.send(f"GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    answer = await end.answer()
    code = json.loads(answer.body)["code"] if answer.status != 200 else ""
    assert SECRET.encode() not in answer.head + answer.body
    return answer.status, code
