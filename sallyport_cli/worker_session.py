"""How commands reach a worker: the one of `sallyport up`, or another by its address and a credential for it."""

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sallyport_cli.control_session import read_token
from sallyport_cli.failure import bad_input
from sallyport_cli.up_directory import UpDirectory

if TYPE_CHECKING:
    from control_client.documents import DocumentSession

WorkerUrl = Annotated[str | None, typer.Option("--worker", help="Another worker: http(s)://host:port.")]


def open_worker(
    data_dir: Path, worker: str | None, token_file: Path | None, ca_file: Path | None, *, timeout_seconds: float
) -> "DocumentSession":
    """Return a session with the worker these options name; raises Failure."""
    from control_client.documents import DocumentSession

    url = UpDirectory(data_dir).worker_url() if worker is None else worker
    token = None if token_file is None else read_token(token_file)
    try:
        trust = None if ca_file is None else ssl.create_default_context(cafile=str(ca_file))
        return DocumentSession(url, token, trust=trust, timeout_seconds=timeout_seconds)
    except OSError as error:  # also what is no certificate
        raise bad_input(f"{ca_file} holds no certificates that can be read ({error.strerror or error})") from None
    except ValueError as error:
        raise bad_input(str(error)) from None
