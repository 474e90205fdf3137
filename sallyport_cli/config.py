"""The one place of the command that reads its environment."""

import os
from collections.abc import Mapping


def inherited() -> dict[str, str]:
    """Return a copy of the environment this command was started with."""
    return dict(os.environ)


def without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without SALLYPORT_* settings: they speak to a gateway, not to a sandbox process."""
    return {name: value for name, value in environment.items() if not name.startswith("SALLYPORT_")}
