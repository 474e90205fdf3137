"""The gateway's settings as commands read them: every fault of the file at once, as a failure."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sallyport_cli import config
from sallyport_cli.failure import bad_input
from sallyport_cli.files import read_file

if TYPE_CHECKING:
    from gateway.config import GatewayConfig


def read_settings(
    path: Path, environment: Mapping[str, str] | None = None, *, base_dir: Path | None = None
) -> "GatewayConfig":
    """Return the checked settings of a file and of the environment (this command's own, where none is given).

    Relative paths start at the file's folder, or at base_dir where the file is a copy.
    """
    from gateway.config import read_config
    from sallyport.settings import ConfigError

    read_file(path)  # one that cannot be read is another kind of failure than one that is wrong
    try:
        return read_config(path, config.inherited() if environment is None else environment, base_dir)
    except ConfigError as error:
        raise bad_input(f"{path}: {_faults(len(error.issues))}", "\n".join(map(str, error.issues))) from None


def read_document(path: Path) -> Mapping[str, object]:
    """Return what stands in a settings file, unchecked but for being a mapping in YAML."""
    from sallyport.net.yaml_file import read_yaml
    from sallyport.settings import ConfigError

    read_file(path)
    try:
        return read_yaml(path)
    except ConfigError as error:
        raise bad_input(f"{path}: {_faults(len(error.issues))}", "\n".join(map(str, error.issues))) from None


def is_given(document: Mapping[str, object], environment: Mapping[str, str], section: str, name: str) -> bool:
    """Say whether a setting stands in the file or in the environment."""
    inner = document.get(section)
    in_file = isinstance(inner, dict) and inner.get(name) is not None
    return in_file or bool(environment.get(f"SALLYPORT_{section}_{name}".upper()))


def _faults(count: int) -> str:
    return "one fault in the settings" if count == 1 else f"{count} faults in the settings"
