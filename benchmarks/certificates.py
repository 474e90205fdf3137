"""What the subjects show a client that speaks TLS to them: one authority for a run, and a leaf of it for the host."""

from dataclasses import dataclass
from pathlib import Path

from sallyport.net.interception import certify_authority, make_authority_key, parse_authority


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """Files in PEM. Who intercepts issues under `ca` with `ca_key`; who is the client's own server shows `leaf`.

    `pair` holds leaf and key in one file.
    """

    ca: Path
    ca_key: Path
    leaf: Path
    leaf_key: Path
    pair: Path


def make_certificates(directory: Path, host: str, now: float) -> Certificates:
    """Make an authority and a leaf for `host`, ECDSA on P-256 as the gateway's own are."""
    made = Certificates(
        ca=directory / "door-ca.pem",
        ca_key=directory / "door-ca.key",
        leaf=directory / "door.pem",
        leaf_key=directory / "door.key",
        pair=directory / "door-pair.pem",
    )
    key = make_authority_key()
    certificate, _ = certify_authority("bench", key, now)
    leaf = parse_authority(certificate, key, "bench").issue(host, now)
    made.ca.write_bytes(certificate)
    made.ca_key.write_bytes(key)
    made.leaf.write_bytes(leaf.certificate_pem)
    made.leaf_key.write_bytes(leaf.key_pem)
    made.pair.write_bytes(leaf.certificate_pem + leaf.key_pem)
    for path in (made.ca_key, made.leaf_key, made.pair):
        path.chmod(0o600)  # the gateway refuses a key that others may read
    return made
