"""`sallyport worker`: run a worker until it is told to end."""

from pathlib import Path

from sallyport_cli.failure import bad_input, environment
from sallyport_cli.output import JsonFlag


def worker(json: JsonFlag = False) -> None:
    """Run a worker. Its settings are SALLYPORT_WORKER_* variables (docs/settings.md); it ends on SIGTERM or SIGINT."""
    from sallyport.net.listener_tls import ListenerTlsError
    from sallyport.net.log import configure_log
    from sallyport.net.transports import ListenError
    from sallyport.settings import ConfigError
    from worker.app import run_worker
    from worker.config import read_config
    from worker.durable.database import DatabaseConfigError, DatabaseUnavailable
    from worker.durable.lease import LeaseLost
    from worker.durable.sqlite import SqliteTooOld
    from worker.owned_folder import StateTaken

    try:
        config = read_config(Path.cwd())
    except ConfigError as error:
        raise bad_input("faults in the settings", "\n".join(map(str, error.issues))) from None
    configure_log(config.log)
    try:
        run_worker(config)
    except DatabaseConfigError as error:
        raise bad_input(error.message, error.hint) from None
    except (ListenError, ListenerTlsError, SqliteTooOld, DatabaseUnavailable, LeaseLost) as error:
        raise environment(error.message, error.hint) from None
    except StateTaken as error:
        raise environment(
            str(error), "give each worker a folder of its own: SALLYPORT_WORKER_INTEGRATIONS_STATE_DIR"
        ) from None
