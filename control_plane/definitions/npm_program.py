"""A program that npm installs at one version: what agents come as."""

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import StringConstraints

from control_plane.definitions.contract import Document

# One version and no range: the same plan installs the same program next year.
Version = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,6}\.[0-9]{1,6}\.[0-9]{1,6}(-[A-Za-z0-9.-]{1,40})?$")]

# Packages with a native program of 300 MB and more, through the gateway.
INSTALL_MS: Final = 600_000
REMOVE_MS: Final = 60_000
PROBE_MS: Final = 30_000

# An image that has this version needs no registry, and a sandbox that may reach none still works with such an image.
_INSTALL: Final = 'test "$("$1" --version 2>/dev/null)" = "$2" || npm install --global --no-audit --no-fund "$3"'


def npm_program(
    *, key: str, name: str, program: str, package: str, version: str, answer: str, env: Mapping[str, str]
) -> Document:
    """Return the artifact of a program; `answer` is all that its --version prints at this version."""
    install = ["sh", "-c", _INSTALL, "sh", program, answer, f"{package}@{version}"]
    return {
        "artifactKey": key,
        "name": f"{name} {version}",
        # npm touches nothing but this package's own folder and programs, so others are installed beside it.
        "after": [],
        "env": env,
        "lifecycle": {
            "install": [{"op": "exec", "args": install, "timeoutMs": INSTALL_MS}],
            "remove": [{"op": "exec", "args": ["npm", "uninstall", "--global", package], "timeoutMs": REMOVE_MS}],
        },
    }


def program_of_image(*, key: str, name: str, program: str, env: Mapping[str, str]) -> Document:
    """Return the artifact of a program that the image brings; where it does not, the artifact's step says so."""
    probe = {"op": "exec", "args": [program, "--version"], "timeoutMs": PROBE_MS}
    return {
        "artifactKey": key,
        "name": f"{name} of the image",
        "after": [],
        "env": env,
        "lifecycle": {"install": [probe]},
    }
