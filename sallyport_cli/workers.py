"""`sallyport workers`: which workers a control plane knows, and forgetting one that will not come back."""

from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from sallyport_cli.control_session import Control, TokenFile, UpDataDir, ask, open_session, show_all
from sallyport_cli.output import JsonFlag, show_json, show_lines

app = typer.Typer(help="The workers of a control plane.", no_args_is_help=True)

PATH = "/api/workers"
COLUMNS = ("worker", "state", "servers", "api")


@app.command("list")
def list_workers(
    data_dir: UpDataDir = Path(".sallyport"),
    control: Control = None,
    token_file: TokenFile = None,
    json: JsonFlag = False,
) -> None:
    """List workers, with how many integration servers each reported last."""
    show_all(open_session(data_dir, control, token_file), PATH, COLUMNS, _row, as_json=json)


@app.command()
def forget(
    worker_id: Annotated[str, typer.Argument(help="The worker's id, such as wrk_1.")],
    data_dir: UpDataDir = Path(".sallyport"),
    control: Control = None,
    token_file: TokenFile = None,
    json: JsonFlag = False,
) -> None:
    """Forget a worker that is lost, with what it ran; one that lives is refused."""
    ask(open_session(data_dir, control, token_file), "DELETE", f"{PATH}/{quote(worker_id, safe='')}")
    if json:
        show_json({"workerId": worker_id, "forgotten": True})
    else:
        show_lines([f"{worker_id} is forgotten"])


def _row(worker: dict[str, object]) -> tuple[str, ...]:
    servers = worker["servers"]
    assert isinstance(servers, list), "every worker has a list of them"
    return str(worker["workerId"]), str(worker["state"]), str(len(servers)), str(worker["apiUrl"])
