"""mitmproxy's mitmdump with a small addon."""

import json
import shutil
import subprocess
from pathlib import Path

from benchmarks.peers.environment import in_bench_environment
from benchmarks.subject import Door, Launch, Site, free_port
from benchmarks.workloads.workload import Way

_ADDON = Path(__file__).with_name("mitm_addon.py")


class Mitmproxy:
    name = "mitmproxy"

    def missing(self) -> str | None:
        return None if _program() else "mitmdump is not installed (PyPI package `mitmproxy`; `make bench-deps`)"

    def version(self) -> str:
        shown = subprocess.run([_program() or "", "--version"], capture_output=True, text=True, check=True)
        return shown.stdout.split("\n", 1)[0].rpartition(" ")[2]

    def prepare(self, site: Site) -> Launch:
        port = free_port()
        addon = shutil.copy(_ADDON, site.directory)
        settings = {
            "credential": site.credential,
            "host": site.host,
            "ports": {"http": site.origin_port, "https": site.origin_tls_port},
        }
        (site.directory / "settings.json").write_text(json.dumps(settings))
        options = (
            *("--set", f"confdir={site.directory}"),
            *("--set", "connection_strategy=lazy"),
            *("--set", f"ssl_verify_upstream_trusted_ca={site.origin_ca}"),
            # Connections by address are the opaque ones; those to intercept are by name.
            *("--ignore-hosts", r"^127\.0\.0\.1:"),
        )
        # mitmproxy issues under what it finds here: the authority of this run, key and certificate in one file.
        authority = site.directory / "mitmproxy-ca.pem"
        authority.write_bytes(site.certificates.ca_key.read_bytes() + site.certificates.ca.read_bytes())
        listen = ("--listen-host", "127.0.0.1", "--listen-port", str(port))
        return Launch(
            command=(_program() or "", "-q", *listen, *options, "-s", str(addon)),
            port=port,
            doors={
                Way.TLS: Door(port=port, authority=f"{site.host}:443", ca_file=site.certificates.ca),
                Way.OPAQUE: Door(port=port, authority=f"127.0.0.1:{site.origin_port}"),
            },
        )


def _program() -> str | None:
    packaged = in_bench_environment("bin/mitmdump")
    return str(packaged) if packaged else shutil.which("mitmdump")
