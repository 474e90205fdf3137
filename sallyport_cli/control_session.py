"""How commands reach a control plane: the one of `sallyport up`, or another by its address and a credential for it."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sallyport_cli.failure import bad_input, environment
from sallyport_cli.files import read_file
from sallyport_cli.output import show_json, show_table

if TYPE_CHECKING:
    from control_client.documents import DocumentSession

# A cell for each column of the table that an item is a row of.
type Row = Callable[[dict[str, object]], Sequence[str]]
UpDataDir = Annotated[Path, typer.Option(help="The data directory of `sallyport up`.")]
Control = Annotated[str | None, typer.Option(help="Another control plane: http(s)://host:port.")]
TokenFile = Annotated[Path | None, typer.Option(help="A service token or API key for it.")]


def open_session(data_dir: Path, control: str | None, token_file: Path | None) -> "DocumentSession":
    """Return a session with the control plane these options name; raises Failure."""
    from control_client.documents import DocumentSession
    from sallyport_cli.up_directory import UpDirectory

    directory = UpDirectory(data_dir)
    if control is None:
        control = directory.control_url()
    token = read_token(token_file or directory.operator_token)
    try:
        return DocumentSession(control, token)
    except ValueError as error:
        raise bad_input(str(error)) from None


def ask(session: "DocumentSession", method: str, path: str, body: object = None) -> dict[str, object]:
    """Return what is answered, nothing being an empty document; raises Failure."""
    from control_client.documents import DocumentError

    try:
        answer = session.ask(method, path, None if body is None else json.dumps(body).encode())
    except DocumentError as error:
        raise (bad_input if error.status in (400, 404, 409) else environment)(str(error)) from None
    return dict(json.loads(answer or b"{}"))


def show_all(session: "DocumentSession", path: str, columns: Sequence[str], row: Row, *, as_json: bool) -> None:
    """Print a list: as a table, or as JSON; raises Failure."""
    items = ask_all(session, path)
    if as_json:
        show_json({"items": items})
    else:
        show_table(columns, map(row, items))


def ask_all(session: "DocumentSession", path: str) -> list[dict[str, object]]:
    """Return the items of every page of a list; raises Failure."""
    items: list[dict[str, object]] = []
    query = ""
    while True:
        page = ask(session, "GET", path + query)
        found = page["items"]
        assert isinstance(found, list), "a page has items"
        items += found
        if "nextCursor" not in page:
            return items
        query = f"?cursor={page['nextCursor']}"


def read_token(path: Path) -> str:
    """Return the credential in a file; raises Failure."""
    return read_file(path).decode("ascii", "replace").strip()
