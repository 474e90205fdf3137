"""`sallyport gateway`: run a gateway until it is told to end."""

from pathlib import Path
from typing import Annotated

import typer

from sallyport_cli.failure import ExitStatus, Failure
from sallyport_cli.output import JsonFlag
from sallyport_cli.settings import read_settings


def gateway(
    config: Annotated[Path, typer.Option(help="The settings (docs/settings.md).")],
    json: JsonFlag = False,
) -> None:
    """Run a gateway. It ends on SIGTERM or SIGINT, after open exchanges have finished.

    Its log goes to standard error, audit records to standard output or where audit.path says.
    """
    from gateway.app import StartError, run_gateway
    from gateway.plan_holder import PlanFilesError
    from gateway.tokens import KeySetError

    settings = read_settings(config)
    try:
        status = run_gateway(settings)
    except StartError as error:
        is_content = isinstance(error.__context__, PlanFilesError | KeySetError)
        kind = ExitStatus.BAD_INPUT if is_content else ExitStatus.ENVIRONMENT
        raise Failure(kind, error.message, error.hint) from None
    raise typer.Exit(status)
