"""The servers and their tools as callers see them: one frozen value, replaced whole (contracts section 7)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Protocol


class Progress(Protocol):
    """What hears how a call goes on: how far it is, of how much, and a word."""

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None: ...


class Line(Protocol):
    """What a tool is called through."""

    async def call(self, tool: str, arguments: Mapping[str, Any], progress: Progress | None) -> "CallResult":
        """Call a tool; raises ToolCallError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallResult:
    """What a tool answered, as the protocol has it: content blocks as JSON. is_error is the tool's own word."""

    content: tuple[Mapping[str, Any], ...]
    structured: object
    is_error: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool, with the link that it was listed on: it is called there as long as that is open.

    is_repeatable: the server says that a second call with the same arguments changes nothing further.
    """

    server: str
    name: str
    description: str
    input_schema: Mapping[str, Any]
    is_repeatable: bool
    line: Line = field(repr=False, compare=False)

    async def call(self, arguments: Mapping[str, Any], *, progress: Progress | None = None) -> CallResult:
        """Call it; raises ToolCallError. It counts as open from this very moment, before anything is awaited."""
        return await self.line.call(self.name, arguments, progress)


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolset:
    """The tools of one server, and where it is."""

    server: str
    url: str
    tools: tuple[Tool, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Everything at one moment. Each next one has a higher number; none is ever changed."""

    number: int = 0
    toolsets: Mapping[str, Toolset] = MappingProxyType({})
    tools: Mapping[tuple[str, str], Tool] = MappingProxyType({})

    def replaced(self, toolset: Toolset) -> "View":
        """Return the next view, in which a server has these tools."""
        return _view(self.number + 1, {**self.toolsets, toolset.server: toolset})

    def without(self, servers: Iterable[str]) -> "View":
        """Return the next view, in which these servers are not."""
        gone = frozenset(servers)
        return _view(self.number + 1, {name: each for name, each in self.toolsets.items() if name not in gone})

    def __repr__(self) -> str:
        return f"<View {self.number}: {len(self.toolsets)} servers, {len(self.tools)} tools>"


NOTHING: Final = View()


def _view(number: int, toolsets: dict[str, Toolset]) -> View:
    tools = {(each.server, each.name): each for toolset in toolsets.values() for each in toolset.tools}
    return View(number=number, toolsets=MappingProxyType(toolsets), tools=MappingProxyType(tools))
