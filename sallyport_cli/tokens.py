"""`sallyport token`: keys that sign tokens, and tokens: of a gateway that stands alone, or of a control plane."""

from pathlib import Path
from typing import Annotated

import typer

from sallyport_cli.failure import bad_input
from sallyport_cli.output import JsonFlag, show_json, show_lines
from sallyport_cli.times import instant, now, seconds

app = typer.Typer(help="Make signing keys for a standalone gateway, and tokens.", no_args_is_help=True)


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
    key: Annotated[
        Path | None, typer.Option(help="The private key that `token keygen` wrote. Absent: the control plane's key.")
    ] = None,
    sandbox: Annotated[str | None, typer.Option(help="Whose token this is: the sandboxId of its plan.")] = None,
    org: Annotated[str | None, typer.Option(help="The organizationId of its plan.")] = None,
    service: Annotated[str | None, typer.Option(help="A service token instead, for the caller of this name.")] = None,
    ttl: Annotated[str, typer.Option(help="How long it lives, such as 15m, 24h or 7d.")] = "24h",
    audience: Annotated[
        str | None, typer.Option(help="Where it will be presented: sallyport-proxy, with --service sallyport-control.")
    ] = None,
    issuer: Annotated[str, typer.Option(help="The gateway's tokens.issuer; with --key only.")] = "sallyport",
    data_dir: Annotated[
        Path | None, typer.Option(help="The control plane's data folder (SALLYPORT_DATA_DIR); without --key.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Print a signed token, and nothing else."""
    from sallyport.claims import AUDIENCE_CONTROL, AUDIENCE_PROXY, SERVICE_AUDIENCES

    audience = audience or (AUDIENCE_PROXY if service is None else AUDIENCE_CONTROL)
    if (service is None) == (sandbox is None) or (service is None) == (org is None):
        raise bad_input("say whose token it is", "write --sandbox with --org, or --service")
    if (service is not None) != (audience in SERVICE_AUDIENCES):
        hint = f"a service token is for one of {', '.join(sorted(SERVICE_AUDIENCES))}, and no other token is"
        raise bad_input(f"--audience {audience} is not for this kind of token", hint)
    if key is not None and data_dir is not None:
        raise bad_input("--key and --data-dir name two keys", "give one of them")
    subject, ttl_seconds = sandbox or service or "", seconds(ttl, "--ttl")
    if key is not None:
        from sallyport_cli import keys

        signed = keys.mint(
            keys.read_private_key(key),
            sandbox_id=subject,
            organization_id=org,
            audience=audience,
            issuer=issuer,
            ttl_seconds=ttl_seconds,
            now=now(),
        )
        _show(signed.token, signed.token_id, signed.expires_at, as_json=json)
    else:
        from sallyport_cli import control_plane

        minted = control_plane.mint(data_dir, subject=subject, organization_id=org, audience=audience, ttl=ttl_seconds)
        _show(minted.token, minted.token_id, minted.expires_at, as_json=json)


def _show(token: str, token_id: str, expires_at: int, *, as_json: bool) -> None:
    if as_json:
        show_json({"token": token, "tokenId": token_id, "expiresAt": instant(expires_at)})
    else:
        show_lines([token])
