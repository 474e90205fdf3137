"""What cannot stand beside one another in one plan. Each issue is told at the later binding and names the earlier one.

Two bindings may bring the very same artifact, runtime client or repository: it is there once.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath

from pydantic import ValidationError

from control_plane.compiler.emit import EmittedBinding, Part
from control_plane.compiler.issues import CompileCode, issue
from control_plane.compiler.parts import BindingParts, objects
from control_plane.definitions.contract import Issue, Kind
from sallyport.plan.model import EgressRoute
from sallyport.plan.ties import find_ties


def conflicts(bindings: Sequence[BindingParts]) -> list[Issue]:
    """Return everything in which bindings, given in the order of their document, contradict themselves or others."""
    return [
        *_tied_routes(bindings),
        *_different(bindings, lambda emitted: emitted.artifacts, "artifactKey", CompileCode.ARTIFACT_CONFLICT),
        *_different(bindings, lambda emitted: emitted.runtime_clients, "clientId", CompileCode.RUNTIME_CLIENT_CONFLICT),
        *_different_variables(bindings),
        *_colliding_files(bindings),
        *_agent_runtimes(bindings),
        *_dangling_references(bindings),
        *_missing_agent_runtimes(bindings),
        *_workspaces(bindings),
    ]


def _tied_routes(bindings: Sequence[BindingParts]) -> Iterator[Issue]:
    """Two routes that tie, with a request that both would claim; a faulty route is told by the schema of plans."""
    routes: dict[int, EgressRoute] = {}
    owners: list[BindingParts] = []
    for parts in bindings:
        for route in parts.emitted.egress_routes:
            owners.append(parts)
            try:
                routes[len(owners) - 1] = EgressRoute.model_validate(route)
            except ValidationError:
                continue
    for tie in find_ties(routes):
        first, second = owners[tie.first_index], owners[tie.second_index]
        both = f"routes {tie.first_rule_id} and {tie.second_rule_id}"
        message = f"{_told(first, second)} and this one both claim {tie.request} ({both})"
        yield issue(CompileCode.ROUTE_CONFLICT, second.pointer, message)


def _different(
    bindings: Sequence[BindingParts],
    listed: Callable[[EmittedBinding], Sequence[Part]],
    key: str,
    code: CompileCode,
) -> Iterator[Issue]:
    """Things of one key that are not the same thing."""
    holders: dict[object, tuple[BindingParts, Part]] = {}
    for parts in bindings:
        for each in listed(parts.emitted):
            first, known = holders.setdefault(each.get(key), (parts, each))
            if known != each:
                message = f"{_told(first, parts)} brings another {key} {each.get(key)}"
                yield issue(code, parts.pointer, message)


def _different_variables(bindings: Sequence[BindingParts]) -> Iterator[Issue]:
    """A variable that two artifacts set to different values: what runs in the sandbox has one environment."""
    holders: dict[str, tuple[BindingParts, object, object]] = {}
    for parts in bindings:
        for artifact in parts.emitted.artifacts:
            for environment in objects(artifact, "env"):
                for name, value in environment.items():
                    first, key, known = holders.setdefault(name, (parts, artifact.get("artifactKey"), value))
                    if known != value and key != artifact.get("artifactKey"):
                        message = f"artifact {key} of {_told(first, parts)} sets {name} to something else"
                        yield issue(CompileCode.ARTIFACT_CONFLICT, parts.pointer, message)


def _colliding_files(bindings: Sequence[BindingParts]) -> Iterator[Issue]:
    """A path that two clients write; where two bindings bring one client, its files are the same ones."""
    holders: dict[str, tuple[BindingParts, object, Part]] = {}
    for parts in bindings:
        for client in parts.emitted.runtime_clients:
            for file in objects(client, "setup", "files"):
                path = str(PurePosixPath(str(file.get("path"))))
                first, client_id, known = holders.setdefault(path, (parts, client.get("clientId"), file))
                is_another = client_id != client.get("clientId") or first is parts
                if known is not file and is_another:
                    message = f"{_told(first, parts)} writes {path} too (runtime client {client_id})"
                    yield issue(CompileCode.RUNTIME_CLIENT_CONFLICT, parts.pointer, message)


def _agent_runtimes(bindings: Sequence[BindingParts]) -> Iterator[Issue]:
    holders: dict[object, BindingParts] = {}
    for parts in bindings:
        for runtime in parts.emitted.agent_runtimes:
            key = runtime.get("runtimeKey")
            if key in holders:
                message = f"{_told(holders[key], parts)} is agent runtime {key} already"
                yield issue(CompileCode.AGENT_RUNTIME_CONFLICT, parts.pointer, message)
            holders.setdefault(key, parts)


def _dangling_references(bindings: Sequence[BindingParts]) -> Iterator[Issue]:
    """An endpoint has to name a process of its client, an agent runtime an endpoint of a client of the plan."""
    endpoints = set()
    for parts in bindings:
        for client in parts.emitted.runtime_clients:
            client_id = client.get("clientId")
            processes = {each.get("processKey") for each in objects(client, "processes")}
            for endpoint in objects(client, "endpoints"):
                endpoints.add((client_id, endpoint.get("endpointKey")))
                process = endpoint.get("processKey")
                if process is not None and process not in processes:
                    message = f"endpoint {endpoint.get('endpointKey')} of {client_id} names no process of it: {process}"
                    yield issue(CompileCode.RUNTIME_CLIENT_INVALID_REF, parts.pointer, message)
    for parts in bindings:
        for runtime in parts.emitted.agent_runtimes:
            client_id, endpoint_key = runtime.get("clientId"), runtime.get("endpointKey")
            if (client_id, endpoint_key) not in endpoints:
                message = f"agent runtime {runtime.get('runtimeKey')}: there is no endpoint {client_id}/{endpoint_key}"
                yield issue(CompileCode.RUNTIME_CLIENT_INVALID_REF, parts.pointer, message)


def _missing_agent_runtimes(bindings: Sequence[BindingParts]) -> Iterator[Issue]:
    """An agent whose client is reached by an endpoint says by an agent runtime how it is spoken to."""
    for parts in bindings:
        if parts.binding.definition.kind is not Kind.AGENT or parts.emitted.agent_runtimes:
            continue
        for client in parts.emitted.runtime_clients:
            if any(objects(client, "endpoints")):
                message = f"runtime client {client.get('clientId')} has endpoints and no agent runtime"
                yield issue(CompileCode.AGENT_RUNTIME_REQUIRED, parts.pointer, message)


def _workspaces(bindings: Sequence[BindingParts]) -> Iterator[Issue]:
    """One path with two repositories, and a repository that two git bindings of one family bring."""
    paths: dict[str, tuple[BindingParts, object]] = {}
    repositories: dict[tuple[str, object], BindingParts] = {}
    for parts in bindings:
        definition = parts.binding.definition
        for source in parts.emitted.workspace_sources:
            path, origin = str(PurePosixPath(str(source.get("path")))), source.get("originUrl")
            first, known = paths.setdefault(path, (parts, origin))
            if known != origin:
                message = f"{_told(first, parts)} clones another repository into {path}"
                yield issue(CompileCode.WORKSPACE_CONFLICT, parts.pointer, message)
            if definition.kind is not Kind.GIT:
                continue
            holder = repositories.setdefault((definition.family_id, origin), parts)
            if holder is not parts:
                message = f"binding {holder.id} of the same family has {origin}; bind each repository once"
                yield issue(CompileCode.WORKSPACE_CONFLICT, parts.pointer, message)


def _told(first: BindingParts, second: BindingParts) -> str:
    return "this binding" if first is second else f"binding {first.id}"
