"""Write the hash-pinned locks of this folder from the groups of pyproject.toml: `make lock`, or with names for some.

A lock has to come out the same wherever it is made, so the pip settings of the machine (mirrors, local wheels) are
left out and no address is written into it; `pip install` then takes each file from wherever its user's pip looks,
and the hashes say whether it is the right one.
"""

import os
import pathlib
import subprocess
import sys
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
WITH_THE_PROJECT = ("dev", "fuzz", "mitmproxy")  # the other environments never import the project itself
GROUPS = ("dev", "clients", "bench", "fuzz", "mcp-servers", "mitmproxy", "schemathesis", "wheel")
MACHINE_SETTINGS = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX", "PIP_CONSTRAINT")
HEADER = """\
# Lock of the dependency group "{name}" (pyproject.toml) for Python 3.13. Made by `make lock`; not edited by hand.
"""


def requirements_of(name: str) -> list[str]:
    """Return the requirement lines behind one lock."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    lines: list[str] = list(project["dependency-groups"][name])
    if name in WITH_THE_PROJECT:
        # setuptools is in the lock because the project is installed with --no-build-isolation.
        lines += project["project"]["dependencies"] + project["build-system"]["requires"]
    return lines


def write_lock(name: str) -> None:
    """Resolve one group and write requirements/<name>.txt."""
    lock = HERE / f"{name}.txt"
    environment = {key: value for key, value in os.environ.items() if key not in MACHINE_SETTINGS}
    environment["PIP_CONFIG_FILE"] = os.devnull
    # Without reading the old output pip-compile would keep its pins: that is what --upgrade is for.
    command = [sys.executable, "-m", "piptools", "compile", "--quiet", "--upgrade", "--generate-hashes"]
    command += ["--no-header", "--no-annotate", "--allow-unsafe", "--strip-extras", "--no-config"]
    command += ["--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host", "--no-emit-options"]
    command += ["--output-file", "-", "-"]
    lines = "\n".join(requirements_of(name))
    answer = subprocess.run(command, input=lines, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    # pip-tools' warning about pip and setuptools: they are pinned on purpose.
    pins = "".join(line for line in answer.stdout.splitlines(keepends=True) if not line.startswith("#"))
    lock.write_text(HEADER.format(name=name) + pins, encoding="utf-8")
    print(f"requirements/{lock.name}: {answer.stdout.count('==')} packages")


if __name__ == "__main__":
    for group in sys.argv[1:] or GROUPS:
        write_lock(group)
