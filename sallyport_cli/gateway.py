"""`sallyport gateway`: run a gateway until it is told to end."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import typer

from sallyport_cli.failure import ExitStatus, Failure
from sallyport_cli.output import JsonFlag
from sallyport_cli.settings import read_settings


def gateway(
    config: Annotated[Path, typer.Option(help="The settings (docs/settings.md).")],
    workers: Annotated[
        int | None, typer.Option(min=1, max=64, help="Processes that serve, instead of the setting `workers`.")
    ] = None,
    serving_process: Annotated[str | None, typer.Option(hidden=True)] = None,
    json: JsonFlag = False,
) -> None:
    """Run a gateway. It ends on SIGTERM or SIGINT, after open exchanges have finished.

    Its log goes to standard error, audit records to standard output or where audit.path says.
    """
    from gateway.keys import KeySetError
    from gateway.plan_holder import PlanFilesError
    from gateway.starting import StartError

    try:
        status = _run(config, workers) if serving_process is None else _run_one_of_several(config, serving_process)
    except StartError as error:
        is_content = isinstance(error.__context__, PlanFilesError | KeySetError)
        kind = ExitStatus.BAD_INPUT if is_content else ExitStatus.ENVIRONMENT
        raise Failure(kind, error.message, error.hint) from None
    raise typer.Exit(status)


def _run(config: Path, workers: int | None) -> int:
    from gateway.app import run_gateway

    settings = read_settings(config)
    if workers is not None:
        settings = dataclasses.replace(settings, workers=workers)
    if settings.workers == 1:
        return run_gateway(settings)
    from gateway.processes.parent import run_parent

    # -P: a folder called `gateway` where the user happens to stand is not ours.
    return run_parent(settings, config, (sys.executable, "-P", "-m", "sallyport_cli.main", "gateway"))


def _run_one_of_several(config: Path, text: str) -> int:
    """Run a process that the parent of several has started (gateway/processes)."""
    from gateway.app import run_gateway
    from gateway.processes.place import Place

    place = Place.from_text(text)
    return run_gateway(read_settings(config, base_dir=place.settings_folder), place)
