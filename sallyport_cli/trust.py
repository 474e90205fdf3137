"""The trust a sandbox process is given, with what goes wrong told as a failure."""

from collections.abc import Mapping
from pathlib import Path

from sallyport.net import trust_files
from sallyport.net.trust_files import TrustFiles
from sallyport_cli.failure import environment as failure


def write_trust(directory: Path, ca_pem: bytes, environment: Mapping[str, str]) -> TrustFiles:
    """Write the files of a sandbox process into a folder. Raises Failure."""
    try:
        return trust_files.write_trust(directory, ca_pem, environment)
    except OSError as error:
        raise failure(f"{error.filename}: {error.strerror}", "correct the path or its permissions") from None
