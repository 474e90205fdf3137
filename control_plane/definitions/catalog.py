"""The definitions that come with Sallyport."""

from typing import Final

from control_plane.definitions.contract import AnyDefinition
from control_plane.definitions.linear import default as linear

CATALOG: Final[tuple[AnyDefinition, ...]] = (linear.DEFINITION,)
