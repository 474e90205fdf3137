"""The variables of what runs in the sandbox: given to our processes, and written as a file for everybody's shells."""

import shlex
from collections.abc import Mapping

from sallyport.trust_env import NAMES, REMOVED

MARK = "SALLYPORT_SETUP"
"""The variable that every process of a set-up carries, so that a later sandboxd finds what an earlier one left."""


def environment_of(base: Mapping[str, str], *layers: Mapping[str, str] | None) -> dict[str, str]:
    """Return base and, over it, each layer; values are taken as they stand, nothing in them is expanded.

    Where a layer sets a variable of the way out or of trust, it is the layer's: the document's word is the operator's.
    """
    merged = {name: value for name, value in base.items() if name not in REMOVED}
    for layer in layers:
        merged.update(layer or {})
    return merged


def shell_file(base: Mapping[str, str], environment: Mapping[str, str]) -> bytes:
    """Write what a POSIX shell reads to have the proxy, the trust and the document's variables."""
    variables = {name: value for name, value in base.items() if name in NAMES} | dict(environment)
    lines = ["# Written by sandboxd, and written anew whenever a set-up is applied."]
    lines += [f"unset {name}" for name in REMOVED]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in sorted(variables.items())]
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")
