"""`sallyport env`: the variables that lead a sandbox's programs through the gateway, for its shell or image."""

from pathlib import Path
from typing import Annotated

import typer

from sallyport import trust_env
from sallyport.trust_env import REMOVED, variables
from sallyport_cli.failure import bad_input
from sallyport_cli.files import read_file
from sallyport_cli.output import JsonFlag, show_lines
from sallyport_cli.shells import Format, render


def env(
    proxy: Annotated[str, typer.Option(help="The gateway's proxy as the sandbox reaches it: http://host:port.")],
    token_file: Annotated[Path, typer.Option(help="A file with the sandbox's proxy token (`token mint`).")],
    ca: Annotated[Path, typer.Option(help="Where the sandbox finds its CA certificate (PEM).")],
    bundle: Annotated[Path, typer.Option(help="Where it finds the system's roots and that CA in one file (PEM).")],
    java_trust_store: Annotated[Path | None, typer.Option(help="The same bundle as PKCS12, for Java.")] = None,
    wgetrc: Annotated[Path | None, typer.Option(help="A wget settings file with `ca_certificate = BUNDLE`.")] = None,
    form: Annotated[Format, typer.Option("--format", help="Who reads it. docker: for --env-file.")] = Format.SH,
    json: JsonFlag = False,
) -> None:
    """Print the variables of a sandbox. They hold its token, which lets through its own requests and no others'.

    The paths are the sandbox's, so they are not looked at here.
    """
    values = variables(
        proxy_url=with_token(proxy, read_token(token_file)),
        ca_file=str(ca),
        bundle_file=str(bundle),
        java_trust_store=None if java_trust_store is None else str(java_trust_store),
        wgetrc=None if wgetrc is None else str(wgetrc),
    )
    try:
        show_lines(render(Format.JSON if json else form, values, REMOVED))
    except ValueError as error:
        raise bad_input(str(error), "give a path without one") from None


def read_token(path: Path) -> str:
    """Return the token a file holds, or raise Failure."""
    token = read_file(path).decode("latin-1").strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise bad_input(f"{path} does not hold one token", "`sallyport token mint` prints one")
    return token


def with_token(proxy: str, token: str) -> str:
    """Return the URL of a proxy with the token as its password; raises Failure for what is none."""
    try:
        return trust_env.with_token(proxy, token)
    except ValueError as error:
        raise bad_input("this is not the address of a proxy", str(error)) from None
