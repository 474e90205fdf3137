"""`sallyport token`: keys that sign tokens, and tokens, for a gateway that stands alone."""

from pathlib import Path
from typing import Annotated

import typer

from sallyport_cli.output import JsonFlag, show_json, show_lines
from sallyport_cli.times import instant, now, seconds

app = typer.Typer(help="Make signing keys and tokens for a standalone gateway.", no_args_is_help=True)


@app.command()
def keygen(
    out: Annotated[Path, typer.Option(help="Folder for private.pem, public.pem and jwks.json.")],
    json: JsonFlag = False,
) -> None:
    """Make an Ed25519 pair of keys. The gateway gets the public one (tokens.public_key), nobody the private one."""
    from sallyport_cli.keys import generate_key_files

    files = generate_key_files(out)
    if json:
        paths = {"private": str(files.private), "public": str(files.public), "jwks": str(files.jwks)}
        show_json({**paths, "keyId": files.key_id})
    else:
        show_lines(
            [
                f"{files.private}  signs tokens; keep it away from gateways and sandboxes",
                f"{files.public}   for the gateway: tokens: {{public_key: {files.public}}}",
                f"{files.jwks}    the same as a key set: tokens: {{jwks: {files.jwks}}}",
            ]
        )


@app.command()
def mint(
    key: Annotated[Path, typer.Option(help="The private key that `token keygen` wrote.")],
    sandbox: Annotated[str, typer.Option(help="Whose token this is: the sandboxId of its plan.")],
    org: Annotated[str, typer.Option(help="The organizationId of its plan.")],
    ttl: Annotated[str, typer.Option(help="How long it lives, such as 15m, 24h or 7d.")] = "24h",
    audience: Annotated[str, typer.Option(help="Where it will be presented.")] = "sallyport-proxy",
    issuer: Annotated[str, typer.Option(help="The gateway's tokens.issuer.")] = "sallyport",
    json: JsonFlag = False,
) -> None:
    """Print a signed token, and nothing else."""
    from sallyport_cli import keys

    minted = keys.mint(
        keys.read_private_key(key),
        sandbox_id=sandbox,
        organization_id=org,
        audience=audience,
        issuer=issuer,
        ttl_seconds=seconds(ttl, "--ttl"),
        now=now(),
    )
    if json:
        show_json({"token": minted.token, "tokenId": minted.token_id, "expiresAt": instant(minted.expires_at)})
    else:
        show_lines([minted.token])
