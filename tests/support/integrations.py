"""Integrations from outside: manifests, those of the documentation and a small one to be broken, and packages."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from control_plane.definitions.contract import AnyDefinition
from control_plane.definitions.generic_http.definition import ManifestError, read_manifest
from control_plane.definitions.registry import ENTRY_POINT_GROUP
from sallyport.net.yaml_file import read_yaml

FOLDER = Path(__file__).resolve().parent.parent.parent / "docs/examples/integrations"


def example_definitions() -> list[AnyDefinition]:
    """Return what the examples come to."""
    return [read_manifest(read_yaml(path)) for path in sorted(FOLDER.iterdir())]


def small_manifest(**members: object) -> dict[str, Any]:
    """Return the smallest manifest there is, with other members."""
    return {
        "manifestVersion": 1,
        "familyId": "small",
        "variantId": "small-default",
        "kind": "connector",
        "displayName": "Small",
        "description": "The smallest there is.",
        "connectionMethods": [
            {
                "kind": "api-key",
                "label": "Key",
                "auth": {"type": "bearer"},
                "secrets": [{"secretType": "api_key", "label": "Key"}],
            }
        ],
        "routes": [{"key": "api", "hosts": ["api.example.com"], "methods": ["GET"], "pathPrefixes": ["/v1"]}],
    } | members


def faults(document: Mapping[str, object]) -> dict[str, str]:
    """Return what is wrong with a manifest, by pointer."""
    try:
        read_manifest(document)
    except ManifestError as error:
        return {issue.pointer: issue.message for issue in error.issues}
    return {}


def put_package(folder: Path, name: str, code: str, points: Mapping[str, str]) -> None:
    """Put a package with entry points into a folder where Python looks for some, as an installer would."""
    (folder / f"{name}.py").write_text(code, "utf-8")
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", "utf-8")
    lines = [f"[{ENTRY_POINT_GROUP}]", *(f"{key} = {value}" for key, value in points.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n", "utf-8")
