"""`sallyport status` and `sallyport top`: sandboxes, tunnels, rates, denials and credential states, in the terminal."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sallyport_cli.control_session import Control, TokenFile, UpDataDir, open_session, read_token
from sallyport_cli.failure import bad_input, environment
from sallyport_cli.output import JsonFlag, show_json, show_table

if TYPE_CHECKING:
    from rich.console import Group

    from control_client.documents import DocumentSession
    from sallyport_cli.overview import GatewayAccess, Overview

SANDBOX_COLUMNS = ("sandbox", "organization", "plan", "gateway", "tunnel", "streams")
GATEWAY_COLUMNS = ("gateway", "state", "tunnels", "streams", "requests", "denied", "failed")

GatewayTokenFile = Annotated[Path | None, typer.Option(help="A service token for gateways off loopback.")]
GatewayCaFile = Annotated[Path | None, typer.Option(help="Roots (PEM) to trust for them instead of the system's.")]


def status(
    data_dir: UpDataDir = Path(".sallyport"),
    control: Control = None,
    token_file: TokenFile = None,
    gateway_token_file: GatewayTokenFile = None,
    gateway_ca_file: GatewayCaFile = None,
    json: JsonFlag = False,
) -> None:
    """Show what is there now: sandboxes, gateways, what was denied, how credential resolutions ended."""
    from sallyport_cli import overview as view

    overview = _gather(open_session(data_dir, control, token_file), _gateways(gateway_token_file, gateway_ca_file))
    if json:
        show_json(view.overview_document(overview))
        return
    show_table(SANDBOX_COLUMNS, view.sandbox_rows(overview))
    show_table(GATEWAY_COLUMNS, view.gateway_rows(overview, None))
    show_table(("denied", "requests"), view.denial_rows(overview))
    show_table(("credentials", "resolutions"), view.credential_rows(overview))


def top(
    data_dir: UpDataDir = Path(".sallyport"),
    control: Control = None,
    token_file: TokenFile = None,
    gateway_token_file: GatewayTokenFile = None,
    gateway_ca_file: GatewayCaFile = None,
    every: Annotated[float, typer.Option(min=0.2, max=60, help="Seconds between two looks.")] = 1.0,
    looks: Annotated[int | None, typer.Option(min=1, help="End after so many.")] = None,
) -> None:
    """Show the same again and again, requests as rates. Ctrl-C ends it."""
    from rich.console import Console
    from rich.live import Live

    session, gateways = open_session(data_dir, control, token_file), _gateways(gateway_token_file, gateway_ca_file)
    before: Overview | None = None
    with Live(console=Console(), auto_refresh=False, screen=False) as live:
        while looks is None or looks > 0:
            overview = _gather(session, gateways)
            live.update(_screen(overview, before), refresh=True)
            before = overview
            looks = None if looks is None else looks - 1
            if looks != 0:
                time.sleep(every)


def _gather(session: "DocumentSession", gateways: "GatewayAccess") -> "Overview":
    from control_client.documents import DocumentError
    from sallyport_cli.overview import gather

    try:
        return gather(session, gateways, time.perf_counter())
    except DocumentError as error:
        raise environment(str(error), "is it running? `sallyport up` starts every part") from None


def _gateways(token_file: Path | None, ca_file: Path | None) -> "GatewayAccess":
    import ssl

    from sallyport_cli.overview import GatewayAccess

    try:
        trust = None if ca_file is None else ssl.create_default_context(cafile=str(ca_file))
    except OSError as error:  # also what is no certificate
        raise bad_input(f"{ca_file} holds no certificates that can be read ({error.strerror or error})") from None
    return GatewayAccess(None if token_file is None else read_token(token_file), trust)


def _screen(overview: "Overview", before: "Overview | None") -> "Group":
    from rich import box
    from rich.columns import Columns
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from sallyport_cli import overview as view

    def table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> Table:
        made = Table(*columns, box=box.SIMPLE_HEAD)
        for row in rows:
            made.add_row(*map(Text, row))
        return made

    return Group(
        table(SANDBOX_COLUMNS, view.sandbox_rows(overview)),
        table(GATEWAY_COLUMNS, view.gateway_rows(overview, before)),
        Columns(
            [
                table(("denied", "requests"), list(view.denial_rows(overview))),
                table(("credentials", "resolutions"), list(view.credential_rows(overview))),
            ]
        ),
    )
