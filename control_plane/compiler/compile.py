"""Compile the bindings of a profile's version: to the content of a plan, or to every issue they have.

The content is the plan without what differs between sandboxes of one version; `seal_for` adds that. Same inputs, same
bytes: bindings are taken in the order of their ids, wherever they stand in their document, and what one of them brings
stays in the order its definition gave it. docs/compiling.md has all rules.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from control_plane.compiler.conflicts import conflicts
from control_plane.compiler.emit import EmittedBinding, Part
from control_plane.compiler.inputs import Inputs
from control_plane.compiler.issues import CompileCode, issue
from control_plane.compiler.mcp import McpPass, run_mcp_pass
from control_plane.compiler.parts import BindingParts, objects, parts_of
from control_plane.compiler.validate import validate
from control_plane.definitions.contract import Issue
from control_plane.definitions.registry import Registry
from sallyport.plan.codec import MAX_ISSUES, PlanError, canonical_json, parse_plan, plan_digest
from sallyport.plan.model import CompiledRuntimePlan
from sallyport.setup import SetupError, setup_document

# Where a version names no image, and where it says nothing of what no route claims: nothing gets out unasked.
DEFAULT_IMAGE: Final = {"source": "base", "imageRef": "sandbox-base:1"}
DEFAULT_EGRESS: Final[Part] = {"default": "deny", "managedPassthrough": "deny", "rules": []}
# Stands in for a sandbox where the content is checked and shown.
NO_SANDBOX: Final = "sbx_none"
FIRST_REVISION: Final = 1


class Sealed(NamedTuple):
    """A plan document with its digest."""

    document: bytes
    digest: str


class Compilation(NamedTuple):
    """The content of a plan, and the plan as it would be of NO_SANDBOX."""

    content: Part
    plan: CompiledRuntimePlan


class CompileError(Exception):
    """Bindings that make no plan, with every issue they have (at least one)."""

    def __init__(self, issues: Sequence[Issue]) -> None:
        super().__init__("; ".join(f"{each.pointer or '(document)'}: {each.message} [{each.code}]" for each in issues))
        self.issues = tuple(issues)


def compile_bindings(inputs: Inputs, registry: Registry) -> Compilation:
    """Compile. Raises CompileError."""
    validated = validate(inputs, registry)
    written = [parts_of(binding) for binding in validated.bindings]
    ordered = sorted(written, key=lambda parts: parts.id)
    servers, mcp_issues = run_mcp_pass(ordered)
    issues = [*validated.issues, *conflicts(written), *mcp_issues]
    if issues:
        raise CompileError(sorted(issues, key=_place)[:MAX_ISSUES])
    content = _content(inputs, ordered, servers)
    try:
        plan = parse_plan(seal_for(content, NO_SANDBOX, FIRST_REVISION).document)
        # The sandbox's reader has limits of its own; what it would refuse is refused here.
        setup_document({**content, "sandboxId": NO_SANDBOX, "revision": FIRST_REVISION})
        return Compilation(content, plan)
    except PlanError as error:
        told = [(f"plan.{each.code.value}", each.pointer, each.message) for each in error.issues]
        raise CompileError([_at_binding(*each, content, ordered) for each in told]) from None
    except SetupError as error:
        code = issue(CompileCode.SETUP_REFUSED, "", "").code
        raise CompileError(
            [_at_binding(code, each.pointer, each.message, content, ordered) for each in error.issues]
        ) from None
    except ValueError as error:  # what JSON of plans cannot hold, such as a number with a point
        raise CompileError([Issue("plan.malformed", "", str(error))]) from None


def seal_for(content: Mapping[str, object], sandbox_id: str, revision: int) -> Sealed:
    """Return the plan of one sandbox. Under the revision in force it has that plan's digest if nothing changed."""
    document = {**content, "sandboxId": sandbox_id, "revision": revision}
    digest = plan_digest(document)
    return Sealed(canonical_json({**document, "digest": digest}), digest)


def _content(inputs: Inputs, bindings: Sequence[BindingParts], mcp: McpPass) -> Part:
    return {
        "schemaVersion": 1,
        "sandboxProfileId": inputs.profile_id,
        "version": inputs.version,
        "organizationId": inputs.organization_id,
        "image": DEFAULT_IMAGE if inputs.image is None else dict(inputs.image),
        "egress": DEFAULT_EGRESS if inputs.egress is None else dict(inputs.egress),
        "egressRoutes": [route for parts in bindings for route in parts.emitted.egress_routes],
        "artifacts": _once(bindings, lambda emitted: emitted.artifacts),
        "workspaceSources": _once(bindings, lambda emitted: emitted.workspace_sources),
        "runtimeClients": [
            _with_servers(client, mcp) for client in _once(bindings, lambda emitted: emitted.runtime_clients)
        ],
        "agentRuntimes": [runtime for parts in bindings for runtime in parts.emitted.agent_runtimes],
        "mcpServers": list(mcp.servers),
    }


def _once(bindings: Sequence[BindingParts], listed: Callable[[EmittedBinding], Sequence[Part]]) -> list[Part]:
    """What several bindings bring alike is there once, where it came first."""
    found: list[Part] = []
    for parts in bindings:
        found += [each for each in listed(parts.emitted) if each not in found]
    return found


def _with_servers(client: Part, mcp: McpPass) -> Part:
    """The client with MCP servers written into its file, if one of its files is to hold them."""
    files = list(objects(client, "setup", "files"))
    contents = [mcp.files.get((str(client.get("clientId")), str(file.get("fileId")))) for file in files]
    if not any(contents):
        return client
    [setup] = objects(client, "setup")
    written = [
        file if content is None else {**file, "content": content} for file, content in zip(files, contents, strict=True)
    ]
    return {**client, "setup": {**setup, "files": written}}


# --- issues -----------------------------------------------------------------------------------------------------------


def _place(found: Issue) -> int:
    """The number of the binding, so that issues come in the order of the document."""
    number = found.pointer.removeprefix("/bindings/").partition("/")[0]
    return int(number) if number.isdecimal() else -1


def _at_binding(code: str, place: str, message: str, content: Part, bindings: Sequence[BindingParts]) -> Issue:
    """An issue of the finished plan at the binding that brought what it is about, where one did."""
    return Issue(code, next(_owners(place, content, bindings), ""), f"{place or 'the plan'}: {message}")


def _owners(pointer: str, content: Part, bindings: Sequence[BindingParts]) -> Iterator[str]:
    name, _, rest = pointer.removeprefix("/").partition("/")
    number = rest.partition("/")[0]
    listed = content.get(name)
    if not number.isdecimal() or not isinstance(listed, list):
        return
    wanted = listed[int(number)]
    for parts in bindings:
        emitted = parts.emitted
        brought = {
            "egressRoutes": emitted.egress_routes,
            "artifacts": emitted.artifacts,
            "workspaceSources": emitted.workspace_sources,
            "runtimeClients": emitted.runtime_clients,
            "agentRuntimes": emitted.agent_runtimes,
        }.get(name, [])
        is_same = any(each == wanted or _same_client(each, wanted) for each in brought)
        if is_same or (name == "mcpServers" and wanted["bindingId"] == parts.id):
            yield parts.pointer


def _same_client(each: Part, wanted: Part) -> bool:
    # MCP servers have been written into its file meanwhile.
    return "clientId" in each and "setup" in each and each.get("clientId") == wanted.get("clientId")
