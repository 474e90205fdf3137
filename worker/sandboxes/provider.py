"""What a sandbox is, and what whoever provides sandboxes must be able to do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

# What one sandbox may have at once: enough for builds and browsers, too few to hurt the machine.
MOST_PROCESSES = 4096
MOST_FILES = 4096
ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$"
_Text = Annotated[str, Field(pattern=r"^[^\x00]*$", max_length=32 * 1024)]
_Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,255}$")]


class Definition(BaseModel):
    """What a sandbox is made of; it never changes. `image` is for providers that have images."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)

    sandbox_id: str = Field(alias="sandboxId", pattern=ID_PATTERN)
    provider: Literal["local", "docker"] = "local"
    command: Annotated[list[_Text], Field(min_length=1, max_length=256)]
    environment: Annotated[dict[_Name, _Text], Field(max_length=256)] = {}
    image: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./:@-]{0,255}$")] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelTokens:
    """What a sandbox's sandboxd comes to a gateway with."""

    token: str
    renewal_token: str

    def __repr__(self) -> str:
        return "<TunnelTokens>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What is known of a sandbox that is there. `exit_code` is that of a command that has ended."""

    is_running: bool
    pid: int | None = None
    exit_code: int | None = None


class SandboxProvider(Protocol):
    """One kind of sandboxes of this machine. Every call raises SandboxError where it cannot be carried out.

    Nobody calls two of them for one sandbox at once.
    """

    async def create(self, definition: Definition) -> None:
        """Make what the sandbox needs before it starts; nothing runs yet. What is there of it is taken away first."""

    async def start(self, definition: Definition, tokens: TunnelTokens) -> None:
        """Start its sandboxd and its command, and return when both run."""

    async def stop(self, sandbox_id: str) -> None:
        """End both and everything that the command has started; nothing happens where nothing runs."""

    async def destroy(self, sandbox_id: str) -> None:
        """Stop it and take everything of it away; nothing happens where nothing is there."""

    async def state(self, sandbox_id: str) -> Running | None:
        """Say how it is; None where nothing of it is there."""

    async def list(self) -> Sequence[str]:
        """Name all that are there, also those that nobody declared."""

    async def log(self, sandbox_id: str, lines: int) -> Sequence[str]:
        """Return the last lines that its command and its sandboxd have written."""

    async def close(self) -> None:
        """Stop all of them; they can be started again."""


type Providers = Mapping[str, SandboxProvider]
