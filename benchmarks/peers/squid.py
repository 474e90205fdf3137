"""squid from the distribution: one process."""

import os
import shutil
import subprocess
from pathlib import Path

from benchmarks.subject import Door, Launch, Site, free_ports, write_config
from benchmarks.workloads.workload import Way

_CONFIG = Path(__file__).with_name("squid.conf")


class Squid:
    name = "squid"

    def missing(self) -> str | None:
        return None if _program() else "squid is not installed (distribution package `squid`; `make bench-deps`)"

    def version(self) -> str:
        shown = subprocess.run([_program() or "", "-v"], capture_output=True, text=True, check=True)
        return shown.stdout.split()[3]

    def prepare(self, site: Site) -> Launch:
        port, connect_port = free_ports(2)
        config = write_config(
            site,
            _CONFIG,
            directory=site.directory,
            port=port,
            connect_port=connect_port,
            host=site.host,
            origin_port=site.origin_port,
            credential=site.credential,
        )
        if os.geteuid() == 0:
            # Started by root, squid goes on as another user, who has to be able to write here.
            site.directory.chmod(0o777)
            site.directory.parent.chmod(0o711)
        return Launch(
            command=(_program() or "", "-N", "-f", str(config)),
            port=port,
            doors={Way.OPAQUE: Door(port=connect_port, authority=f"127.0.0.1:{site.origin_port}")},
        )


def _program() -> str | None:
    # /usr/sbin is where distributions put it, and is often not in the path of an ordinary account.
    return shutil.which("squid") or shutil.which("squid", path="/usr/sbin:/usr/local/sbin")
