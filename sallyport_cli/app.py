"""The command line: which subcommands there are, and how one ends, whatever happens in it."""

import os
import sys
from collections.abc import Sequence

import typer
from typer.exceptions import TyperException

from sallyport_cli import (
    control_plane,
    denials,
    doctor,
    env,
    flows,
    gateway,
    integrations,
    plan,
    run,
    sandboxd,
    status,
    targets,
    tokens,
    up,
    worker,
    workers,
)
from sallyport_cli.failure import ExitStatus, Failure, bad_input
from sallyport_cli.output import own_fault, show_failure

EXIT_STATUSES = """
Exit status: 0 done; 1 a check failed; 2 wrong arguments or contents of a file; 3 the environment (a taken port, an
unreadable file, a gateway that does not answer); 70 a fault of sallyport. `run` passes its command's status on.
"""

app = typer.Typer(
    help="Credentials are written into a sandbox's requests outside the sandbox.",
    epilog=EXIT_STATUSES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("gateway")(gateway.gateway)
app.command("sandboxd")(sandboxd.sandboxd)
app.command("worker")(worker.worker)
app.command("up")(up.up)
app.command("status")(status.status)
app.command("top")(status.top)
app.command("denials")(denials.denials)
app.command("run")(run.run)
app.command("env")(env.env)
app.command("doctor")(doctor.doctor)
app.add_typer(control_plane.app, name="control-plane")
app.add_typer(plan.app, name="plan")
app.add_typer(tokens.app, name="token")
app.add_typer(targets.app, name="targets")
app.add_typer(flows.app, name="flows")
app.add_typer(workers.app, name="workers")
app.add_typer(integrations.app, name="integrations")


def main(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit status. Nothing is ever raised, no traceback printed."""
    as_json = "--json" in (arguments[: arguments.index("--")] if "--" in arguments else arguments)
    try:
        status = typer.main.get_command(app).main(list(arguments), prog_name="sallyport", standalone_mode=False)
        sys.stdout.flush()
        return int(status or ExitStatus.OK)
    except Failure as failure:
        show_failure(failure, as_json=as_json)
        return failure.status
    except TyperException as error:
        return _usage(error, as_json=as_json)
    except (KeyboardInterrupt, typer.Abort):
        return ExitStatus.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough; the interpreter would complain when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitStatus.OK
    except Exception as error:  # the last door: a bug of ours is told in one line
        show_failure(own_fault(error), as_json=as_json)
        return ExitStatus.OWN_FAULT


def _usage(error: TyperException, *, as_json: bool) -> int:
    message = error.format_message()
    if message:  # none: the help was asked for by giving no arguments, and has been printed
        show_failure(
            bad_input(message, "sallyport --help shows the commands, and --help after one its options"), as_json=as_json
        )
    return ExitStatus.BAD_INPUT
