"""mitmproxy's mitmdump with a small addon."""

import json
import shutil
import subprocess
from pathlib import Path

from benchmarks.peers.environment import in_bench_environment
from benchmarks.subject import Launch, Site, free_port

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
        settings = {"credential": site.credential, "origin_port": site.origin_port}
        (site.directory / "settings.json").write_text(json.dumps(settings))
        options = ("--set", f"confdir={site.directory}", "--set", "connection_strategy=lazy")
        listen = ("--listen-host", "127.0.0.1", "--listen-port", str(port))
        return Launch(command=(_program() or "", "-q", *listen, *options, "-s", str(addon)), port=port)


def _program() -> str | None:
    packaged = in_bench_environment("bin/mitmdump")
    return str(packaged) if packaged else shutil.which("mitmdump")
