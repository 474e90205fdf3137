"""aiohttp's server and client from PyPI, as many proxies in Python are made: one process."""

import json
import shutil
import subprocess
from pathlib import Path

from benchmarks.peers.environment import in_bench_environment
from benchmarks.subject import Launch, Site, free_port

_PROGRAM = Path(__file__).with_name("aiohttp_proxy.py")
_ASK = "from importlib.metadata import version; print(version('aiohttp'))"


class Aiohttp:
    name = "aiohttp"

    def missing(self) -> str | None:
        return None if _python() else "aiohttp is not installed (PyPI package `aiohttp`; `make bench-deps`)"

    def version(self) -> str:
        shown = subprocess.run([_python() or "", "-I", "-c", _ASK], capture_output=True, text=True, check=True)
        return shown.stdout.strip()

    def prepare(self, site: Site) -> Launch:
        port = free_port()
        program = shutil.copy(_PROGRAM, site.directory)
        settings = site.directory / "settings.json"
        settings.write_text(
            json.dumps(
                {
                    "port": port,
                    "origin": f"http://127.0.0.1:{site.origin_port}",
                    "authorization": f"Bearer {site.credential}",
                    "log": str(site.directory / "access.log"),
                }
            )
        )
        return Launch(command=(_python() or "", "-I", str(program), str(settings)), port=port)


def _python() -> str | None:
    if in_bench_environment("lib/python3*/site-packages/aiohttp/__init__.py") is None:
        return None
    python = in_bench_environment("bin/python")
    return None if python is None else str(python)
