"""`sallyport control-plane`: serve one, migrate its database, make and rotate its keys."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sallyport_cli import config
from sallyport_cli.failure import bad_input, environment
from sallyport_cli.output import JsonFlag, show_json, show_lines
from sallyport_cli.times import instant, now, seconds

if TYPE_CHECKING:
    from control_plane.config import ControlPlaneConfig
    from control_plane.foundation import Foundation
    from control_plane.signing import Minted

app = typer.Typer(help="Run a control plane and look after its database and keys.", no_args_is_help=True)
keys = typer.Typer(help="The keys that sign tokens, and those that encrypt secrets.", no_args_is_help=True)
app.add_typer(keys, name="keys")
api_key = typer.Typer(help="Keys for whoever asks the API.", no_args_is_help=True)
app.add_typer(api_key, name="api-key")

DataDir = Annotated[
    Path | None, typer.Option(help="Folder for database, master keys and service tokens (SALLYPORT_DATA_DIR).")
]


@app.command()
def serve(
    data_dir: DataDir = None,
    listen: Annotated[str | None, typer.Option(help="host:port (SALLYPORT_API_LISTEN).")] = None,
    json: JsonFlag = False,
) -> None:
    """Run a control plane. Nothing has to be prepared: it makes its folder, database, keys and service tokens.

    It ends on SIGTERM or SIGINT. Its log goes to standard error. Its settings are variables (docs/settings.md).
    """
    from control_plane.app import run_control_plane
    from control_plane.foundation import StartError

    settings = read_settings(data_dir, listen)
    try:
        raise typer.Exit(run_control_plane(settings))
    except StartError as error:
        raise environment(error.message, error.hint) from None


@app.command()
def migrate(data_dir: DataDir = None, json: JsonFlag = False) -> None:
    """Bring the database to the newest schema, and make the first signing key where there is none."""
    from control_plane.store.migrate import head

    async def nothing(_: "Foundation") -> None:
        return None

    run(read_settings(data_dir), nothing, prepare=True)
    if json:
        show_json({"schema": head()})
    else:
        show_lines([f"the database is at schema {head()}"])


@app.command()
def keygen(
    out: Annotated[Path, typer.Option(help="The file to make (SALLYPORT_MASTER_KEY_FILE).")], json: JsonFlag = False
) -> None:
    """Make a file of master keys, for a control plane that keeps them apart from its data folder."""
    from control_plane.vault.master_keys import make_master_keys

    try:
        make_master_keys(out)
    except FileExistsError:
        raise environment(f"{out} exists already", "it is not overwritten: what it wrapped would be lost") from None
    except OSError as error:
        raise environment(f"{out} cannot be written: {error.strerror}", "choose another place") from None
    if json:
        show_json({"masterKeyFile": str(out)})
    else:
        show_lines([f"{out}  back it up: without it no stored secret can be read"])


@keys.command()
def rotate(
    data_dir: DataDir = None,
    at_once: Annotated[bool, typer.Option(help="Sign with the new key now, not when every cache has it.")] = False,
    json: JsonFlag = False,
) -> None:
    """Publish a new key that signs tokens, used ten minutes later. Tokens of older keys stay good until they end."""
    from control_plane.signing import rotate_signing_key

    async def rotated(base: "Foundation") -> tuple[str, int]:
        return await rotate_signing_key(base.database, base.vault, now(), at_once=at_once)

    key_id, active_at = run(read_settings(data_dir), rotated)
    if json:
        show_json({"keyId": key_id, "activeAt": instant(active_at)})
    else:
        show_lines([f"{key_id} is published and signs from {instant(active_at)}"])


@keys.command("rotate-master")
def rotate_master(data_dir: DataDir = None, json: JsonFlag = False) -> None:
    """Add a master key to the file and wrap every data key by it. Running replicas go on; give each the new file first.

    The older master keys stay in the file: backups of the database need them. Where the keys come from a variable or a
    command, add the new one there first: this wraps by the newest there is.
    """
    from control_plane.vault.master_keys import MasterKeyError, add_master_key, read_master_keys

    settings = read_settings(data_dir)

    async def rewrap(base: "Foundation") -> int:
        return await base.vault.rewrap(base.database)

    source = settings.master_keys
    try:
        version = add_master_key(source) if isinstance(source, Path) else read_master_keys(source).newest
    except MasterKeyError as error:
        raise bad_input(error.message, error.hint) from None
    except OSError as error:
        raise environment(f"{source}: {error.strerror}", "correct its permissions") from None
    count = run(settings, rewrap)
    if json:
        show_json({"masterVersion": version, "dataKeys": count})
    else:
        show_lines([f"master key {version} wraps {count} data keys now"])


@api_key.command("create")
def create_api_key(
    role: Annotated[str, typer.Option(help="operator, member or service.")],
    org: Annotated[str | None, typer.Option(help="The organization of a member.")] = None,
    name: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    ttl: Annotated[
        str | None, typer.Option(help="How long it lives, such as 90d; absent: until it is revoked.")
    ] = None,
    data_dir: DataDir = None,
    json: JsonFlag = False,
) -> None:
    """Make an API key and print it, this once. It serves at once, whether or not the control plane is running."""
    from control_plane import api_keys
    from control_plane.callers import Role
    from control_plane.refusals import Refused

    if role not in list(Role):
        raise bad_input(f"{role} is not a role", f"write one of {', '.join(Role)}")
    ttl_seconds = None if ttl is None else int(seconds(ttl, "--ttl"))

    async def created(base: "Foundation") -> dict[str, object]:
        return await api_keys.create(
            base.database,
            Role(role),
            org,
            display_name=name,
            ttl_seconds=ttl_seconds,
            created_by="command",
            now=now(),
        )

    try:
        key = run(read_settings(data_dir), created)
    except Refused as refused:
        raise bad_input("the key cannot be made", "\n".join(issue.message for issue in refused.issues)) from None
    if json:
        show_json(key)
    else:
        show_lines([str(key["key"])])


def mint(data_dir: Path | None, *, subject: str, organization_id: str | None, audience: str, ttl: float) -> "Minted":
    """Sign a token with the control plane's key in use; Failure. A sandbox's token has a lineage of its own."""
    lineage = "" if organization_id is None else f"sid_{secrets.token_hex(12)}"

    async def minted(base: "Foundation") -> "Minted":
        return await base.ring.mint(
            audience=audience,
            subject=subject,
            organization_id=organization_id or "",
            lineage=lineage,
            ttl_seconds=int(ttl),
            now=now(),
        )

    try:
        return run(read_settings(data_dir), minted)
    except ValueError as error:
        raise bad_input(f"this token would be refused: {error}", "change what it says") from None


def read_settings(data_dir: Path | None, listen: str | None = None) -> "ControlPlaneConfig":
    """Return the settings of the environment and these options; Failure with every fault."""
    from control_plane.config import load_config
    from sallyport.settings import ConfigError

    given: dict[str, object] = {}
    if data_dir is not None:
        given["data_dir"] = str(data_dir)
    if listen is not None:
        given["api"] = {"listen": listen}
    try:
        return load_config(config.inherited(), Path.cwd(), given)
    except ConfigError as error:
        raise bad_input("the settings are faulty", "\n".join(map(str, error.issues))) from None


def run[T](
    settings: "ControlPlaneConfig", action: "Callable[[Foundation], Awaitable[T]]", *, prepare: bool = False
) -> T:
    """Do something with a control plane's database and keys, whether or not it is running; Failure.

    Only with `prepare` is made what is missing: a mistyped folder must not become another control plane.
    """
    from control_plane.foundation import StartError, foundation
    from control_plane.store.database import DatabaseUnavailable

    async def opened() -> T:
        async with foundation(settings, now=now(), prepare=prepare) as base:
            return await action(base)

    try:
        return asyncio.run(opened())
    except StartError as error:
        raise environment(error.message, error.hint) from None
    except DatabaseUnavailable:
        raise environment("the database does not answer", "check SALLYPORT_DATABASE_URL") from None
