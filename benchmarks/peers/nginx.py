"""nginx from the distribution: one worker."""

import shutil
import subprocess
from pathlib import Path

from benchmarks.subject import Launch, Site, free_port, write_config

_CONFIG = Path(__file__).with_name("nginx.conf")


class Nginx:
    name = "nginx"

    def missing(self) -> str | None:
        return None if _program() else "nginx is not installed (distribution package `nginx`; `make bench-deps`)"

    def version(self) -> str:
        shown = subprocess.run([_program() or "", "-v"], capture_output=True, text=True, check=True)
        return shown.stderr.strip().rpartition("/")[2]

    def prepare(self, site: Site) -> Launch:
        port = free_port()
        config = write_config(
            site,
            _CONFIG,
            directory=site.directory,
            port=port,
            host=site.host,
            origin_port=site.origin_port,
            credential=site.credential,
        )
        return Launch(command=(_program() or "", "-e", str(site.directory / "error.log"), "-c", str(config)), port=port)


def _program() -> str | None:
    # /usr/sbin is where distributions put it, and is often not in the path of an ordinary account.
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
