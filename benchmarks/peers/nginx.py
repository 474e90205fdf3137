"""nginx from the distribution: one worker."""

import shutil
import subprocess
from pathlib import Path

from benchmarks.subject import Door, Launch, Site, free_ports, write_config
from benchmarks.workloads.workload import Way

_CONFIG = Path(__file__).with_name("nginx.conf")


class Nginx:
    name = "nginx"

    def missing(self) -> str | None:
        return None if _program() else "nginx is not installed (distribution package `nginx`; `make bench-deps`)"

    def version(self) -> str:
        shown = subprocess.run([_program() or "", "-v"], capture_output=True, text=True, check=True)
        return shown.stderr.strip().rpartition("/")[2]

    def prepare(self, site: Site) -> Launch:
        port, tls_port = free_ports(2)
        certificates = site.certificates
        config = write_config(
            site,
            _CONFIG,
            directory=site.directory,
            port=port,
            host=site.host,
            origin_port=site.origin_port,
            credential=site.credential,
            tls_port=tls_port,
            leaf=certificates.leaf,
            leaf_key=certificates.leaf_key,
            origin_tls_port=site.origin_tls_port,
            origin_ca=site.origin_ca,
        )
        command = (_program() or "", "-e", str(site.directory / "error.log"), "-c", str(config))
        return Launch(command=command, port=port, doors={Way.TLS: Door(port=tls_port, ca_file=certificates.ca)})


def _program() -> str | None:
    # /usr/sbin is where distributions put it, and is often not in the path of an ordinary account.
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
