"""HAProxy from the distribution: one process, one thread."""

import shutil
import subprocess
from pathlib import Path

from benchmarks.subject import Door, Launch, Site, free_ports, write_config
from benchmarks.workloads.workload import Way

_CONFIG = Path(__file__).with_name("haproxy.cfg")


class HAProxy:
    name = "haproxy"

    def missing(self) -> str | None:
        return None if _program() else "HAProxy is not installed (distribution package `haproxy`; `make bench-deps`)"

    def version(self) -> str:
        shown = subprocess.run([_program() or "", "-v"], capture_output=True, text=True, check=True)
        return shown.stdout.split()[2]

    def prepare(self, site: Site) -> Launch:
        port, tls_port = free_ports(2)
        config = write_config(
            site,
            _CONFIG,
            port=port,
            tls_port=tls_port,
            host=site.host,
            origin_port=site.origin_port,
            origin_tls_port=site.origin_tls_port,
            origin_ca=site.origin_ca,
            pair=site.certificates.pair,
            credential=site.credential,
        )
        doors = {Way.TLS: Door(port=tls_port, ca_file=site.certificates.ca)}
        return Launch(command=(_program() or "", "-db", "-f", str(config)), port=port, doors=doors)


def _program() -> str | None:
    # /usr/sbin is where distributions put it, and is often not in the path of an ordinary account.
    return shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")
