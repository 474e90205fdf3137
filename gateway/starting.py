"""What a start reads: keys, roots, credentials, the way to the control plane; and how it says that it cannot be."""

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import structlog

from control_client.service_token import ServiceToken
from control_client.session import ControlSession
from gateway.admin.surface import AdminListenError
from gateway.audit import AuditError
from gateway.config import GatewayConfig, process_environment
from gateway.control import ControlSide
from gateway.credentials import LocalCredentials
from gateway.keys import KeyRing, KeySet, KeySetError
from gateway.metrics import Metrics
from gateway.plan_holder import PlanFilesError
from gateway.plan_store import StateError
from gateway.processes.followed import FollowedControl
from gateway.revocations import Revocations
from gateway.tokens import TokenVerifier
from sallyport.net.clock import read_wall
from sallyport.net.listener_tls import ListenerTlsError, certificate_ends_at
from sallyport.net.tls import client_context
from sallyport.net.transports import ListenError

_log = structlog.get_logger(__name__)

_CHECK_PATH: Final = "check the path and its permissions"


class StartError(Exception):
    """A gateway cannot start; says why and what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message}; {hint}")
        self.message = message
        self.hint = hint


@contextlib.contextmanager
def start_errors() -> Iterator[None]:
    """Turn what can go wrong at start into words an operator can act on."""
    try:
        yield
    except (ListenError, ListenerTlsError) as error:
        raise StartError(error.message, error.hint) from None
    except (AuditError, AdminListenError, StateError) as error:
        message, _, hint = str(error).partition("; ")
        raise StartError(message, hint) from None
    except PlanFilesError as error:
        raise StartError(str(error), "correct the file and start again") from None
    except OSError as error:
        raise StartError(f"{error.filename or 'a file'}: {error.strerror or error}", _CHECK_PATH) from None


def local_credentials(config: GatewayConfig) -> LocalCredentials:
    """Make the source of a gateway that stands alone; what cannot be read is told in the log."""
    local = LocalCredentials(config.credentials, process_environment())
    for problem in local.problems():
        _log.warning("credential_not_readable", detail=problem)
    return local


def key_ring(config: GatewayConfig) -> KeyRing:
    """Read the keys that are given; under a control plane they come later."""
    if config.control.url is not None:
        return KeyRing()
    setting, path = (
        ("tokens.public_key", config.tokens.public_key)
        if config.tokens.public_key is not None
        else ("tokens.jwks", config.tokens.jwks)
    )
    assert path is not None, "the settings demand one of the two"
    ring = KeyRing()
    try:
        content = path.read_bytes()
        ring.replace(KeySet.from_jwks(content) if setting == "tokens.jwks" else KeySet.from_public_key_pem(content))
    except OSError as error:
        raise StartError(f"{setting}: {path} cannot be read ({error.strerror})", _CHECK_PATH) from None
    except KeySetError as error:
        raise StartError(f"{setting}: {path}: {error}", "correct the file and start again") from None
    return ring


def token_verifier(
    config: GatewayConfig,
    keys: KeyRing,
    revocations: Revocations,
    control: ControlSide | FollowedControl | None,
    audience: str,
) -> TokenVerifier:
    return TokenVerifier(
        keys,
        issuer=config.tokens.issuer,
        audience=audience,
        revocations=revocations,
        cache_entries=config.limits.token_cache_entries,
        on_unknown_key=None if control is None else control.want_keys,
    )


def trust_of(setting: str, path: Path | None) -> ssl.SSLContext:
    """Load the roots that a setting names, or the system's."""
    try:
        return client_context(None if path is None else str(path))
    except ssl.SSLError:
        raise StartError(f"{setting}: {path} holds no certificate", "name a bundle of roots in PEM") from None
    except OSError as error:
        # OpenSSL names no file in its error.
        raise StartError(f"{setting}: {path} cannot be read ({error.strerror})", _CHECK_PATH) from None


def control_session(config: GatewayConfig, metrics: Metrics) -> ControlSession | None:
    """Open the session to the control plane, if there is one; the caller closes it. Raises StartError."""
    control = config.control
    if control.url is None or control.token_file is None:
        return None
    trust = trust_of("control.ca_file", control.ca_file)
    return ControlSession(control.url, ServiceToken(control.token_file), trust=trust, count=metrics.control_answered)


def watch_expiries(config: GatewayConfig, session: ControlSession | None, metrics: Metrics) -> None:
    """Let a scrape ask in how many seconds what this gateway shows to others ends."""

    def watch(name: str, ends_at: Callable[[], float | None]) -> None:
        metrics.watch_expiry(name, lambda: None if (end := ends_at()) is None else end - read_wall())

    # Read once, as the listeners do.
    admin, tunnel = certificate_ends_at(config.admin.tls), certificate_ends_at(config.tunnel.tls)
    watch("admin_certificate", lambda: admin)
    watch("tunnel_certificate", lambda: tunnel)
    if session is not None:
        watch("service_token", lambda: session.token_ends_at)


def failed_tasks(metrics: Metrics) -> Callable[[str, BaseException], None]:
    """Return what is told of tasks that failed: each is a defect of ours, logged and counted."""

    def failed(name: str, error: BaseException) -> None:
        metrics.defects += 1
        _log.error("task_failed", task=name, exc_info=error)

    return failed


def failed_callbacks(metrics: Metrics) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """Return a loop's exception handler that counts defects, and reports as the loop does without one."""

    def failed(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        # A socket's own failure is the network's, and ends here only because nobody else waits for it.
        if not isinstance(context.get("exception"), OSError):
            metrics.defects += 1
        loop.default_exception_handler(context)

    return failed
