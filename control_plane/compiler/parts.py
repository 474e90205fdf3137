"""What one binding adds to the plan, before anything is put together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from control_plane.compiler.emit import EmittedBinding, Part, emit
from control_plane.compiler.validate import ValidBinding
from control_plane.definitions.contract import Compiled, McpServer


@dataclass(frozen=True, slots=True, kw_only=True)
class BindingParts:
    """A binding, what its definition made of it, and the same in the words of the plan."""

    binding: ValidBinding
    compiled: Compiled
    emitted: EmittedBinding
    mcp_servers: Sequence[McpServer]

    @property
    def id(self) -> str:
        """The binding's id."""
        return self.binding.context.binding_id

    @property
    def pointer(self) -> str:
        """Its place in the document of bindings."""
        return self.binding.pointer


def parts_of(binding: ValidBinding) -> BindingParts:
    """Ask a definition what a binding compiles to."""
    definition, context = binding.definition, binding.context
    compiled = definition.compile_binding(context)
    return BindingParts(
        binding=binding,
        compiled=compiled,
        emitted=emit(definition, context, compiled),
        mcp_servers=tuple(definition.mcp(context)) if definition.mcp is not None else (),
    )


def objects(value: object, *names: str) -> Iterator[Part]:
    """Yield the objects behind member names, passing over whatever has another shape: the schema tells that later."""
    if not names:
        if isinstance(value, dict):
            yield value
        return
    found = value.get(names[0]) if isinstance(value, dict) else None
    for each in found if isinstance(found, list) else [found]:
        yield from objects(each, *names[1:])
