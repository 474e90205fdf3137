"""The definitions that come with Sallyport."""

from typing import Final

from control_plane.definitions.anthropic import default as anthropic
from control_plane.definitions.contract import AnyDefinition
from control_plane.definitions.github import cloud, enterprise_server
from control_plane.definitions.linear import default as linear
from control_plane.definitions.openai import default as openai

CATALOG: Final[tuple[AnyDefinition, ...]] = (
    anthropic.DEFINITION,
    cloud.DEFINITION,
    enterprise_server.DEFINITION,
    linear.DEFINITION,
    openai.DEFINITION,
)
