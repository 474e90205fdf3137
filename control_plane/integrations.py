"""The definitions of this environment: of the catalog, of installed packages, of manifest files.

A package is somebody else's program. One that cannot be loaded, or whose definition does not fit, is left out with a
warning and named by /readyz: the other integrations have to go on working, and an upgrade that broke one must not keep
sandboxes from starting. A manifest is the operator's own file, next to the settings: what is wrong with one is told
whole, and nothing starts, as with a setting.
"""

from collections.abc import Iterable, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Final

import structlog

from control_plane.definitions.catalog import CATALOG
from control_plane.definitions.contract import AnyDefinition, IntegrationDefinition
from control_plane.definitions.generic_http.definition import ManifestError, read_manifest
from control_plane.definitions.registry import ENTRY_POINT_GROUP, Registry, RegistryError, definition_faults
from sallyport.json_object import json_object
from sallyport.net.yaml_file import MAX_YAML_BYTES, read_yaml
from sallyport.settings import ConfigError, SettingIssue

# Each becomes a target; more in one folder is a wrong folder.
MAX_MANIFESTS: Final = 200
_SUFFIXES: Final = (".yaml", ".yml", ".json")

_log = structlog.get_logger(__name__)


class IntegrationsError(Exception):
    """Manifests that cannot be used; .faults names the file, the place in it and what is wrong, for all of them."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


def load_registry(manifests: Path | None, packages: Iterable[EntryPoint] | None = None) -> Registry:
    """Load everything; `packages` are the installed ones unless they are given. Raises IntegrationsError."""
    definitions = [*CATALOG, *_read_manifests(manifests)]
    left_out = []
    found = entry_points(group=ENTRY_POINT_GROUP) if packages is None else packages
    for point in sorted(found, key=lambda each: (each.name, each.value)):
        definition = _load_package(point, definitions)
        if definition is None:
            left_out.append(point.name)
        else:
            definitions.append(definition)
    return Registry(definitions, left_out)


# --- packages ---------------------------------------------------------------------------------------------------------


def _load_package(point: EntryPoint, known: Sequence[AnyDefinition]) -> AnyDefinition | None:
    try:
        definition: object = point.load()
    except (Exception, SystemExit) as error:
        # Whatever somebody else's import does.
        _log.warning("integration_left_out", name=point.name, value=point.value, reason=type(error).__name__)
        return None
    if not isinstance(definition, IntegrationDefinition):
        _log.warning("integration_left_out", name=point.name, value=point.value, reason="no IntegrationDefinition")
        return None
    faults = definition_faults(definition) or _clashes([*known, definition])
    if faults:
        _log.warning("integration_left_out", name=point.name, value=point.value, reason="; ".join(faults))
        return None
    return definition


def _clashes(definitions: Sequence[AnyDefinition]) -> list[str]:
    try:
        Registry(definitions)
    except RegistryError as error:
        return [str(error)]
    return []


# --- manifests --------------------------------------------------------------------------------------------------------


def _read_manifests(folder: Path | None) -> list[AnyDefinition]:
    if folder is None:
        return []
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES and not path.name.startswith("."))
    except OSError as error:
        raise IntegrationsError([f"{folder}: {error.strerror or error}"]) from None
    if len(files) > MAX_MANIFESTS:
        raise IntegrationsError([f"{folder}: more than {MAX_MANIFESTS} manifests"])
    definitions: list[AnyDefinition] = []
    faults: list[str] = []
    for file in files:
        found = _read_manifest(file)
        if isinstance(found, list):
            faults += found
            continue
        clashes = _clashes([*CATALOG, *definitions, found])
        faults += [f"{file}: {clash}" for clash in clashes]
        definitions += [] if clashes else [found]
    if faults:
        raise IntegrationsError(faults)
    return definitions


def _read_manifest(file: Path) -> AnyDefinition | list[str]:
    try:
        return read_manifest(_read_json(file) if file.suffix == ".json" else read_yaml(file))
    except ConfigError as error:
        return [str(issue) for issue in error.issues]
    except ManifestError as error:
        return [f"{file}: {issue.pointer or '/'}: {issue.message}" for issue in error.issues]


def _read_json(file: Path) -> dict[str, object]:
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_YAML_BYTES + 1)
        if len(content) > MAX_YAML_BYTES:
            raise _fault(file, "is larger than 1 MiB; nobody wrote that by hand")
        return json_object(content)
    except OSError as error:
        raise _fault(file, f"cannot be read ({error.strerror}); correct the path or its permissions") from None
    except ValueError:
        raise _fault(file, "is not one JSON object with each member once") from None


def _fault(file: Path, message: str) -> ConfigError:
    return ConfigError([SettingIssue(pointer=str(file), message=message)])
