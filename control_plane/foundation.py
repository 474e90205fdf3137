"""What stands before a control plane serves: its database, vault, keys and definitions. Commands need no more."""

import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from control_plane.config import ControlPlaneConfig
from control_plane.definitions.registry import Registry
from control_plane.integrations import IntegrationsError, load_registry
from control_plane.signing import KeyRing, ensure_signing_key
from control_plane.store.database import Database, DatabaseConfigError, DatabaseUnavailable
from control_plane.store.migrate import SchemaError, migrate
from control_plane.vault.envelope import Vault, VaultError
from control_plane.vault.master_keys import MasterKeyError, make_master_keys

_log = structlog.get_logger(__name__)


class StartError(Exception):
    """A control plane cannot start; says why and what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message}; {hint}")
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Foundation:
    """What commands need of a control plane that does not serve: its database, vault, keys and definitions."""

    database: Database
    vault: Vault
    ring: KeyRing
    registry: Registry


@contextlib.asynccontextmanager
async def foundation(
    config: ControlPlaneConfig, *, now: float, prepare: bool = True, registry: Registry | None = None
) -> AsyncIterator[Foundation]:
    """Open database and vault; `prepare` makes what is missing: files, schema, signing key.

    Without a registry the definitions are those of this environment. Raises StartError, and within the block
    DatabaseUnavailable.
    """
    with start_errors():
        if prepare:
            _prepare_files(config)
        database = Database.open(config.database)
        vault = Vault(config.master_keys)
        registry = registry or load_registry(config.integration_manifests)
    try:
        if prepare:
            with start_errors():
                await _prepare_database(database, vault, now)
        ring = KeyRing(database, vault, config.tokens_issuer)
        yield Foundation(database=database, vault=vault, ring=ring, registry=registry)
    finally:
        await database.close()


async def _prepare_database(database: Database, vault: Vault, now: float) -> None:
    before, after = await migrate(database)
    if before != after:
        _log.info("migrated", before=before, after=after)
    await ensure_signing_key(database, vault, now)


def _prepare_files(config: ControlPlaneConfig) -> None:
    config.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if config.is_embedded and isinstance(config.master_keys, Path):
        with contextlib.suppress(FileExistsError):
            make_master_keys(config.master_keys)
    if config.database_url is None:
        # Before SQLite makes it with whatever the umask leaves.
        path = Path(config.database.removeprefix("sqlite:///"))
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


@contextlib.contextmanager
def start_errors() -> Iterator[None]:
    """Turn what can go wrong at start into words an operator can act on."""
    try:
        yield
    except IntegrationsError as error:
        raise StartError(str(error), "correct the manifests in SALLYPORT_INTEGRATION_MANIFESTS") from None
    except MasterKeyError as error:
        raise StartError(error.message, error.hint) from None
    except VaultError as error:
        raise StartError(str(error), "restore the master keys that belong to this database") from None
    except DatabaseConfigError as error:
        raise StartError(f"SALLYPORT_DATABASE_URL: {error}", "correct it and start again") from None
    except SchemaError as error:
        raise StartError(str(error), "or restore the backup made before the newer one ran") from None
    except DatabaseUnavailable as error:
        cause = error.__cause__
        raise StartError(
            f"the database cannot be used ({type(cause).__name__ if cause else 'no answer'})",
            "check SALLYPORT_DATABASE_URL and that the database runs",
        ) from None
    except OSError as error:
        raise StartError(
            f"{error.filename or 'a file'}: {error.strerror or error}", "check the path and its permissions"
        ) from None
