"""`sallyport targets`: what the operator offers: brought in line with a file, listed, switched on and off."""

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from sallyport_cli import config
from sallyport_cli.control_plane import DataDir, read_settings, run
from sallyport_cli.control_session import Control, TokenFile, UpDataDir, ask, open_session, show_all
from sallyport_cli.failure import bad_input
from sallyport_cli.files import read_file
from sallyport_cli.output import JsonFlag, show_json, show_lines, show_table
from sallyport_cli.times import now

if TYPE_CHECKING:
    from control_client.documents import DocumentSession
    from control_plane.foundation import Foundation
    from control_plane.target_sync import Difference

app = typer.Typer(help="The integrations an operator offers.", no_args_is_help=True)

PATH = "/v1/integration/targets"
COLUMNS = ("target", "name", "enabled", "health", "issues")

Key = Annotated[str, typer.Argument(help="The target's key, such as github-cloud.")]


@app.command()
def sync(
    file: Annotated[
        Path | None, typer.Option(help="What to set (docs/control-plane.md); absent: only make what is missing.")
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Change nothing, and show what would change.")] = False,
    data_dir: DataDir = None,
    json: JsonFlag = False,
) -> None:
    """Make a target for each definition that has none, and apply a file to those there are, in the database itself.

    What the file does not name stays as it is. Running it again changes nothing.
    """
    from control_plane.target_sync import SyncError
    from control_plane.target_sync import read_file as read_targets
    from control_plane.target_sync import sync as sync_targets

    settings = read_settings(data_dir)
    try:
        wanted = None
        if file is not None:
            wanted = read_targets(read_file(file), config.inherited(), file.absolute().parent)

        async def synced(base: "Foundation") -> "list[Difference]":
            return await sync_targets(
                base.database,
                base.vault,
                base.registry,
                wanted,
                now(),
                enable_ready=settings.is_embedded,
                dry_run=dry_run,
            )

        differences = run(settings, synced)
    except SyncError as error:
        lines = "\n".join(f"{issue.pointer or '(document)'}: {issue.message}" for issue in error.issues)
        raise bad_input(f"{file} is faulty; nothing changed", lines) from None
    if json:
        show_json({"dryRun": dry_run, "differences": [each.document() for each in differences]})
    else:
        show_lines(map(_line, differences) if differences else ["nothing to change"])


@app.command("list")
def list_targets(
    data_dir: UpDataDir = Path(".sallyport"),
    control: Control = None,
    token_file: TokenFile = None,
    json: JsonFlag = False,
) -> None:
    """List targets."""
    show_all(open_session(data_dir, control, token_file), PATH, COLUMNS, _row, as_json=json)


@app.command()
def show(
    key: Key, data_dir: UpDataDir = Path(".sallyport"), control: Control = None, token_file: TokenFile = None
) -> None:
    """Print everything that is known of a target, as JSON."""
    show_json(ask(open_session(data_dir, control, token_file), "GET", f"{PATH}/{quote(key, safe='')}"))


@app.command()
def enable(
    key: Key,
    data_dir: UpDataDir = Path(".sallyport"),
    control: Control = None,
    token_file: TokenFile = None,
    json: JsonFlag = False,
) -> None:
    """Offer a target to members."""
    _switch(open_session(data_dir, control, token_file), key, on=True, json=json)


@app.command()
def disable(
    key: Key,
    data_dir: UpDataDir = Path(".sallyport"),
    control: Control = None,
    token_file: TokenFile = None,
    json: JsonFlag = False,
) -> None:
    """Offer a target no longer: nobody connects to it, and plans that use it are compiled without it."""
    _switch(open_session(data_dir, control, token_file), key, on=False, json=json)


def _switch(session: "DocumentSession", key: str, *, on: bool, json: bool) -> None:
    path = f"{PATH}/{quote(key, safe='')}"
    target = ask(session, "GET", path)
    if target["enabled"] != on:
        target = ask(session, "PATCH", path, {"revision": target["revision"], "enabled": on})
    if json:
        show_json(target)
    else:
        show_table(COLUMNS, [_row(target)])


def _row(target: dict[str, object]) -> tuple[str, ...]:
    health = target["targetHealth"]
    assert isinstance(health, dict), "every target has its health"
    issues = [f"{each['pointer']} {each['message']}" for each in health.get("issues", ())]
    enabled = "yes" if target["enabled"] else "no"
    return str(target["targetKey"]), str(target["displayName"]), enabled, str(health["status"]), "\n".join(issues)


def _line(difference: "Difference") -> str:
    key, what, before, after = difference
    if what == "added" or what.startswith("secrets/"):
        return f"{key}: {what} {after}" if what != "added" else f"{key}: added, {after}"
    return f"{key}: {what} {json_format.dumps(before)} -> {json_format.dumps(after)}"
