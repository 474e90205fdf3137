"""`sallyport run -- COMMAND`: a command whose requests go through a gateway, and who is never told a credential."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sallyport.trust_env import REMOVED, variables
from sallyport_cli import config as surroundings
from sallyport_cli.failure import bad_input
from sallyport_cli.output import JsonFlag

if TYPE_CHECKING:
    from sallyport_cli.reach import Reach


def run(
    command: Annotated[list[str], typer.Argument(help="The command, after --.", metavar="-- COMMAND...")],
    config: Annotated[Path | None, typer.Option(help="Settings of the gateway to start.")] = None,
    plan: Annotated[Path | None, typer.Option(help="The plan; without it, the one of the settings.")] = None,
    sandbox: Annotated[str | None, typer.Option(help="Which plan of the settings: its sandboxId.")] = None,
    key: Annotated[Path | None, typer.Option(help="The private key whose public half the settings name.")] = None,
    proxy: Annotated[str | None, typer.Option(help="A gateway that runs already: http://host:port.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="A proxy token for it (`token mint`).")] = None,
    sandboxd: Annotated[str | None, typer.Option(help="A sandboxd that runs here: host:port. No token.")] = None,
    json: JsonFlag = False,
) -> None:
    """Run a command inside the reach of a gateway and leave with its exit status (128+n after signal n).

    Starts a gateway on free loopback ports, or uses the one of --proxy, or the --sandboxd of this sandbox. The
    variables that hold the settings' credentials are taken out of the command's environment. It still runs as you
    and may read what you may read: the isolation is the sandbox's. With --json a failure to start is told as JSON.
    """
    from sallyport_cli.child import leave_on_signals, run_child
    from sallyport_cli.reach import by_sandboxd, running, started
    from sallyport_cli.standalone import keep_environment_private

    if proxy is None and token_file is not None:
        raise bad_input("--token-file is for a gateway that runs already", "give --proxy as well")
    if proxy is not None and (token_file is None or plan or sandbox or key):
        raise bad_input("--proxy needs --token-file, and takes no --plan, --sandbox or --key")
    if sandboxd is not None and any((proxy, config, plan, sandbox, key)):
        raise bad_input("a sandboxd has its own gateway", "give --sandboxd alone")
    keep_environment_private()
    leave_on_signals()
    inherited = surroundings.inherited()
    with tempfile.TemporaryDirectory(prefix="sallyport-") as name:
        directory = Path(name)  # 0700, and gone in the end
        if sandboxd is not None:
            reach = by_sandboxd(sandboxd)
        elif proxy is not None and token_file is not None:
            reach = running(inherited, proxy=proxy, token_file=token_file, config=config)
        else:
            reach = started(directory / "gateway", inherited, config=config, plan=plan, sandbox=sandbox, key=key)
        with reach as gateway:
            status = run_child(command, child_environment(gateway, inherited, directory / "trust"))
            if gateway.started is not None and gateway.started.has_ended():
                typer.echo(f"warning: the gateway ended before the command\n{gateway.started.log_tail()}", err=True)
    raise typer.Exit(status)


def child_environment(gateway: "Reach", inherited: dict[str, str], directory: Path) -> dict[str, str]:
    """Return the environment for what must reach the gateway and must not see a credential; writes the trust files."""
    from sallyport_cli.trust import write_trust

    trust = write_trust(directory, gateway.ca_pem, inherited)
    kept = {
        name: value
        for name, value in surroundings.without_settings(inherited).items()
        if name not in gateway.withheld and name not in REMOVED
    }
    return kept | variables(
        proxy_url=gateway.proxy_url,
        ca_file=str(trust.ca),
        bundle_file=str(trust.bundle),
        java_trust_store=str(trust.java),
        node_preload=str(trust.node_preload),
        wgetrc=str(trust.wgetrc),
        inherited=kept,
    )
