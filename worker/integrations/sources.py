"""What an install request names, read into a manifest: a catalog id, `npm:`, `pypi:`, a manifest, a `server.json`."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from worker.integrations.catalog import CATALOG
from worker.integrations.errors import Category, IntegrationError, invalid
from worker.integrations.manifest import IntegrationId, Manifest, SecretReference, Text, read_manifest

# What the MCP registry calls them, and what we can install.
_REGISTRIES: Final = ("npm", "pypi")


class InstallRequest(BaseModel):
    """A source, and what an operator adds to it. What is given here wins over the source's own."""

    model_config = ConfigDict(extra="forbid")

    source: str | dict[str, object]
    id: IntegrationId | None = None
    tier: Literal["standard", "admin"] | None = None
    # Appended to the source's own arguments.
    arguments: list[Text] = Field(default_factory=list, max_length=64)
    environment: dict[str, Text] = Field(default_factory=dict)
    secrets: dict[str, SecretReference] = Field(default_factory=dict)
    # Who asks: what the control plane had installed, it may have removed.
    owner: Literal["operator", "control-plane"] = "operator"

    @property
    def digest(self) -> str:
        """What tells this request from another one, whoever asks."""
        asked = self.model_dump(mode="json", exclude={"owner"}, exclude_defaults=True)
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def manifest_of(request: InstallRequest) -> Manifest:
    """Return what is to be installed; raises IntegrationError (NotFound for an unknown catalog id)."""
    if isinstance(request.source, str):
        document = _named(request.source)
    elif "packages" in request.source or "remotes" in request.source or "server" in request.source:
        document = _from_registry(request.source, {*request.environment, *request.secrets})
    else:
        document = read_manifest(request.source).model_dump(exclude_defaults=True)
    return read_manifest(_with(document, request))


def _with(document: dict[str, object], request: InstallRequest) -> dict[str, object]:
    changed = dict(document)
    if request.id is not None:
        changed["id"] = request.id
    if request.tier is not None:
        changed["tier"] = request.tier
    if request.arguments:
        transport = dict(_mapping(changed.get("transport")))
        if transport.get("type") != "stdio":
            raise invalid("a server at a URL takes no arguments", [{"pointer": "/arguments", "message": "leave out"}])
        transport["args"] = [*_sequence(transport.get("args")), *request.arguments]
        changed["transport"] = transport
    for name, given in (
        ("environment", request.environment),
        ("secrets", {name: reference.model_dump() for name, reference in request.secrets.items()}),
    ):
        if given:
            changed[name] = {**_mapping(changed.get(name)), **given}
    return changed


def _named(source: str) -> dict[str, object]:
    registry, colon, rest = source.partition(":")
    if not colon:
        manifest = CATALOG.get(source)
        if manifest is None:
            raise _unknown(source)
        return manifest.model_dump(exclude_defaults=True)
    if registry not in _REGISTRIES:
        raise invalid(f"{registry}: is no source; write a catalog id, npm:NAME[@VERSION] or pypi:NAME[==VERSION]")
    if registry == "npm":
        name, at, version = rest.rpartition("@")
        if not name:
            name, at, version = rest, "", ""
    else:
        name, at, version = rest.partition("==")
    return _packaged(registry, name, version if at else None)


def _unknown(source: str) -> IntegrationError:
    """Return the error of a name that is not in the catalog."""
    return IntegrationError(Category.NOT_FOUND, f"there is no {source!r} in the catalog", {"catalog": sorted(CATALOG)})


def _packaged(registry: str, name: str, version: str | None) -> dict[str, object]:
    package = {"registry": registry, "name": name} | ({} if version is None else {"version": version})
    return {"id": _id_of(name), "package": package, "transport": {"type": "stdio"}}


def _id_of(name: str) -> str:
    """Return an id for a package or a registry's name: @scope/name is scope-name."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.")[:128]


# The MCP registry's server.json -----------------------------------------------------------------------
# A foreign format that grows: what we do not know in it is passed over, what we cannot do is refused.


class _Input(BaseModel):
    name: str = ""
    value: str | None = None
    default: str | None = None
    is_required: bool = Field(default=False, alias="isRequired")
    is_secret: bool = Field(default=False, alias="isSecret")

    @property
    def given(self) -> str | None:
        """The value it stands for; None where an operator has to say."""
        return self.value if self.value is not None else self.default


class _Argument(_Input):
    type: Literal["positional", "named"]


class _Transport(BaseModel):
    type: str
    url: str = ""


class _Package(BaseModel):
    registry_type: str = Field(alias="registryType")
    identifier: str
    version: str | None = None
    transport: _Transport = _Transport(type="stdio")
    package_arguments: list[_Argument] = Field(default_factory=list, alias="packageArguments")
    environment_variables: list[_Input] = Field(default_factory=list, alias="environmentVariables")


class _Remote(BaseModel):
    type: str
    url: str = ""
    headers: list[_Input] = Field(default_factory=list)


class _Server(BaseModel):
    name: str
    description: str = ""
    packages: list[_Package] = Field(default_factory=list)
    remotes: list[_Remote] = Field(default_factory=list)


def _from_registry(document: Mapping[str, object], given: set[str]) -> dict[str, object]:
    """Take the first package that can be installed, else the first remote that can be called."""
    try:
        # The registry's API wraps the document.
        server = _Server.model_validate(document.get("server", document))
    except ValidationError as error:
        issues = [
            {"pointer": "".join(f"/{step}" for step in fault["loc"]), "message": fault["msg"]}
            for fault in error.errors(include_input=False, include_url=False)
        ]
        raise invalid("the server.json is not one", issues) from None
    common: dict[str, object] = {"id": _id_of(server.name), "description": server.description[:1000]}
    for package in server.packages:
        if package.registry_type in _REGISTRIES and package.transport.type == "stdio":
            return common | _from_package(package, given)
    for remote in server.remotes:
        if remote.type == "streamable-http":
            return common | _from_remote(remote, given)
    raise invalid("the server.json has no npm or pypi package with stdio and no streamable-http remote")


def _from_package(package: _Package, given: set[str]) -> dict[str, object]:
    made = _packaged(package.registry_type, package.identifier, package.version)
    args: list[str] = []
    missing = []
    for argument in package.package_arguments:
        if argument.given is not None:
            args += [argument.name, argument.given] if argument.type == "named" else [argument.given]
        elif argument.is_required:
            missing.append(argument.name or "a positional argument")
    if missing:
        raise invalid(f"the server.json leaves open: {', '.join(missing)}; write a manifest")
    variables, secrets = _sorted(package.environment_variables, given)
    return {
        "package": made["package"],
        "transport": {"type": "stdio", "args": args},
        "environment": variables,
        "secrets": secrets,
    }


def _from_remote(remote: _Remote, given: set[str]) -> dict[str, object]:
    headers, secrets = _sorted(remote.headers, given)
    return {"transport": {"type": "streamable-http", "url": remote.url, "headers": headers}, "secrets": secrets}


def _sorted(inputs: Sequence[_Input], given: set[str]) -> tuple[dict[str, str], dict[str, object]]:
    """Return the plain values, and references for the secrets: a variable of the worker of the same name."""
    values: dict[str, str] = {}
    secrets: dict[str, object] = {}
    missing = []
    for each in inputs:
        if each.name in given:
            continue
        if each.is_secret:
            if each.is_required:
                secrets[each.name] = {"env": re.sub(r"[^A-Za-z0-9_]", "_", each.name).upper()}
        elif each.given is not None:
            values[each.name] = each.given
        elif each.is_required:
            missing.append(each.name)
    if missing:
        raise invalid(f"the server.json leaves open: {', '.join(missing)}; give them as environment")
    return values, secrets


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else ()
