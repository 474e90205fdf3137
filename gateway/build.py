"""Which gateway this is: its version, and which of the two builds of one source runs (docs/decisions/0009)."""

from importlib import metadata
from types import FunctionType

from sallyport.wire.http1.codec import parse_request


def version() -> str:
    """Return the version that is installed, or "unknown" for a tree that runs as it lies there."""
    try:
        return metadata.version("sallyport")
    except metadata.PackageNotFoundError:
        return "unknown"


def codec_kind() -> str:
    """Return "compiled" or "pure": whether this process runs the compiled hot path."""
    return "pure" if isinstance(parse_request, FunctionType) else "compiled"
