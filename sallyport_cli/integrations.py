"""`sallyport integrations`: the integration servers of a worker."""

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from sallyport_cli.failure import ExitStatus, Failure, bad_input, environment
from sallyport_cli.files import read_file
from sallyport_cli.output import JsonFlag, show_json, show_lines, show_table
from sallyport_cli.worker_session import WorkerUrl, open_worker

if TYPE_CHECKING:
    from control_client.documents import DocumentError, DocumentSession

# An installer's run at most, as the worker's own default has it, and a moment more.
PATIENCE_SECONDS = 660.0

app = typer.Typer(help="Install, start, stop and look at a worker's MCP servers.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="The integration's id.")]
DataDir = Annotated[Path, typer.Option(help="The data directory of `sallyport up`.")]
TokenFile = Annotated[Path | None, typer.Option(help="A service token for it (aud sallyport-worker).")]
CaFile = Annotated[Path | None, typer.Option(help="Roots (PEM) to trust for it instead of the system's.")]

DEFAULT_DATA_DIR = Path(".sallyport")


@app.command("list")
def list_(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    worker: WorkerUrl = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    json: JsonFlag = False,
) -> None:
    """List what is installed."""
    document = _ask(_session(data_dir, worker, token_file, ca_file), "GET", "/integrations")
    if json:
        show_json(document)
        return
    rows = [[str(row[name]) for name in ("id", "status", "tools_count")] for row in _rows(document, "integrations")]
    show_table(("integration", "status", "tools"), rows)


@app.command()
def install(
    source: Annotated[
        str,
        typer.Argument(
            help="A catalog id, npm:NAME[@VERSION], pypi:NAME[==VERSION], or a file: manifest or server.json."
        ),
    ],
    name: Annotated[str | None, typer.Option("--id", help="Install it under this id.")] = None,
    tier: Annotated[str | None, typer.Option(help="Who may call it by the front: standard or admin.")] = None,
    argument: Annotated[list[str] | None, typer.Option(help="An argument of its program; may be repeated.")] = None,
    variable: Annotated[list[str] | None, typer.Option(help="NAME=VALUE of its program; may be repeated.")] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=env:VARIABLE, NAME=file:/PATH or NAME=credential:NAME, read by the worker; may be repeated."
        ),
    ] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    worker: WorkerUrl = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    json: JsonFlag = False,
) -> None:
    """Install a server; it is started by `start`."""
    order: dict[str, object] = {"source": _source(source)}
    if name is not None:
        order["id"] = name
    if tier is not None:
        order["tier"] = tier
    if argument:
        order["arguments"] = argument
    if variable:
        order["environment"] = dict(_pair(text) for text in variable)
    if secret:
        order["secrets"] = {name: _reference(text) for name, text in map(_pair, secret)}
    document = _ask(_session(data_dir, worker, token_file, ca_file), "POST", "/integrations/install", order)
    _tell(document, f"{document.get('id')} is installed", json)


@app.command()
def start(
    integration: Id,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    worker: WorkerUrl = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    json: JsonFlag = False,
) -> None:
    """Start a server and wait until its tools are known."""
    document = _ask(_session(data_dir, worker, token_file, ca_file), "POST", f"{_path(integration)}/start")
    _tell(document, f"{integration} is {document.get('status')}", json)


@app.command()
def stop(
    integration: Id,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    worker: WorkerUrl = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    json: JsonFlag = False,
) -> None:
    """Stop a server and wait for its end."""
    document = _ask(_session(data_dir, worker, token_file, ca_file), "POST", f"{_path(integration)}/stop")
    _tell(document, f"{integration} is {document.get('status')}", json)


@app.command()
def status(
    integration: Id,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    worker: WorkerUrl = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    json: JsonFlag = False,
) -> None:
    """Say how a server stands."""
    document = _ask(_session(data_dir, worker, token_file, ca_file), "GET", f"{_path(integration)}/status")
    if json:
        show_json(document)
    else:
        show_lines(f"{member:17} {_text(value)}" for member, value in document.items())


@app.command()
def tools(
    integration: Id,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    worker: WorkerUrl = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    json: JsonFlag = False,
) -> None:
    """List a server's tools; of a stopped one those it had."""
    document = _ask(_session(data_dir, worker, token_file, ca_file), "GET", f"{_path(integration)}/tools")
    if json:
        show_json(document)
        return
    rows = [
        (str(tool["name"]), str(tool.get("description", "")).partition("\n")[0]) for tool in _rows(document, "tools")
    ]
    show_table(("tool", "description"), rows)


@app.command()
def logs(
    integration: Id,
    tail: Annotated[int, typer.Option(min=1, help="So many lines.")] = 100,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    worker: WorkerUrl = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    json: JsonFlag = False,
) -> None:
    """Print the last lines a server wrote."""
    session = _session(data_dir, worker, token_file, ca_file)
    document = _ask(session, "GET", f"{_path(integration)}/logs?tail={tail}")
    if json:
        show_json(document)
        return
    lines = document.get("lines")
    show_lines(map(str, lines if isinstance(lines, list) else ()))


@app.command()
def remove(
    integration: Id,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    worker: WorkerUrl = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    json: JsonFlag = False,
) -> None:
    """Stop a server and take away everything of it."""
    document = _ask(_session(data_dir, worker, token_file, ca_file), "DELETE", _path(integration))
    _tell(document, f"{integration} is removed", json)


def _session(data_dir: Path, worker: str | None, token_file: Path | None, ca_file: Path | None) -> "DocumentSession":
    return open_worker(data_dir, worker, token_file, ca_file, timeout_seconds=PATIENCE_SECONDS)


def _ask(session: "DocumentSession", method: str, path: str, order: object = None) -> dict[str, object]:
    from control_client.documents import DocumentError

    body = None if order is None else json_format.dumps(order).encode()
    try:
        document = json_format.loads(session.ask(method, path, body))
    except DocumentError as error:
        raise _failure(error) from None
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise environment(f"{session.url} answers with something else", "is that a worker?")
    return document


def _failure(error: "DocumentError") -> Failure:
    match error.status:
        case None:
            return environment(str(error), "is the worker running? `sallyport up` starts every part")
        case 400 | 404:
            return bad_input(str(error))
        case 409:
            return Failure(ExitStatus.FAILED_CHECK, str(error))
        case _:
            return environment(str(error), "`sallyport integrations logs ID` shows what the server wrote")


def _source(text: str) -> object:
    """Return the document of a file, or the text itself where there is no such file."""
    path = Path(text)
    if not path.is_file():
        return text
    try:
        document = json_format.loads(read_file(path))
    except ValueError:
        raise bad_input(f"{path} is not JSON") from None
    return document


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise bad_input(f"{text.partition('=')[0]!r} has no value", "write NAME=VALUE")
    return name, value


def _reference(text: str) -> dict[str, str]:
    kind, colon, place = text.partition(":")
    if kind not in ("env", "file", "credential") or not colon or not place:
        # Not quoted: it may be the secret itself.
        raise bad_input(
            "a secret is given by where it is", "write NAME=env:VARIABLE, NAME=file:/PATH or NAME=credential:NAME"
        )
    return {kind: place}


def _path(integration: str) -> str:
    return f"/integrations/{quote(integration, safe='')}"


def _tell(document: dict[str, object], line: str, as_json: bool) -> None:
    if as_json:
        show_json(document)
    else:
        show_lines([line])


def _rows(document: dict[str, object], member: str) -> list[dict[str, object]]:
    rows = document.get(member)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else json_format.dumps(value, ensure_ascii=False)
