"""What a subject of the benchmark is told, for tests that only look at what it writes."""

from pathlib import Path

from benchmarks.certificates import make_certificates
from benchmarks.subject import Site

HOST = "api.bench.test"


def site_in(directory: Path) -> Site:
    """Return a site whose origin nobody is at."""
    return Site(
        directory=directory,
        host=HOST,
        origin_port=1,
        credential="sk-of-the-origin",
        origin_tls_port=2,
        origin_ca=directory / "origin-ca.pem",
        certificates=make_certificates(directory, HOST, 1_800_000_000.0),
    )
