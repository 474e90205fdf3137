"""How a server is started: its command, its variables, its headers. The one room where secrets are met.

A program gets the variables written here and none of the worker's own, so no secret of one server reaches another.
"""

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, assert_never
from urllib.parse import urlsplit

from sallyport.net.orphans import end_marked, find_marked
from sallyport.net.trust_files import TrustFiles
from sallyport.secret import Secret, why_unusable
from sallyport.trust_env import variables, with_token
from worker.integrations.errors import Category, IntegrationError, provider_error
from worker.integrations.manifest import (
    CredentialReference,
    EnvironmentReference,
    FileReference,
    HttpTransport,
    Manifest,
    OwnPackage,
    SecretReference,
    StdioTransport,
)

# A key file of several KiB is one; more is a mistaken path.
MAX_SECRET_BYTES: Final = 64 * 1024
# What programs need of the worker's surroundings to run at all.
_PASSED_ON: Final = ("LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR")
MARK: Final = "SALLYPORT_INTEGRATION"
"""The variable that every process of a server carries, so that a later worker finds what an earlier one left."""
# Between a server's mark and the number of a session with it; no id has it.
_SESSION: Final = "/"
# Where this code lies: a server of our own finds the same.
_OWN_CODE: Final = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbound:
    """The gateway that servers go out through: its explicit listener, and the sandbox whose traffic theirs is."""

    proxy: str
    token_file: Path | None
    trust: TrustFiles

    def url(self) -> str:
        """Return the proxy's URL with the token of now: a rotated one is used from the next start on."""
        if self.token_file is None:
            return self.proxy
        return with_token(self.proxy, _read("the gateway", self.token_file).decode("ascii", "replace").strip())


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What of the worker's own a launch is made from."""

    environ: Mapping[str, str]
    credentials_dir: Path | None
    outbound: Outbound | None
    # First on the PATH of servers: where npm is, there is its node.
    programs_dir: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A program, ready to be started. Its variables hold secrets, so no repr shows them."""

    args: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    hidden: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<Launch {self.args[0]}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A URL, ready to be called. Its headers hold secrets, so no repr shows them."""

    url: str
    headers: Mapping[str, str]
    proxy_url: str | None
    hidden: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<Call {self.url}>"


def prepare(manifest: Manifest, folder: Path, program: str | None, mark: str, around: Surroundings) -> Launch | Call:
    """Return what is started or called. `program` is what the package's own command was found to be.

    Raises IntegrationError: InvalidState for a missing secret, ProviderError for a missing program.
    """
    secrets = {name: _resolve(name, reference, around) for name, reference in manifest.secrets.items()}
    match manifest.transport:
        case StdioTransport():
            return _launch(manifest, manifest.transport, secrets, folder, program, mark, around)
        case HttpTransport():
            return _call(manifest, manifest.transport, secrets, around)
        case _:
            assert_never(manifest.transport)


def session_mark(mark: str, number: int) -> str:
    """Return what marks the processes of one session with a server."""
    return f"{mark}{_SESSION}{number}"


def server_mark(mark: str) -> str:
    """Return the mark of the server that a process belongs to, be it a session's or not."""
    return mark.partition(_SESSION)[0]


def end_processes(mark: str) -> int:
    """Kill every process of a server, those of its sessions too; return how many."""
    found = find_marked(MARK, mark)
    return sum(end_marked(MARK, each, pids) for each, pids in found.items() if server_mark(each) == mark)


def path_of(folder: Path, around: Surroundings) -> str:
    """Return the PATH of a server: its own environment first."""
    places = [folder / "env" / "bin", folder / "env" / "node_modules" / ".bin"]
    if around.programs_dir is not None:
        places.append(around.programs_dir)
    return os.pathsep.join([*map(str, places), around.environ.get("PATH", os.defpath)])


def proxy_variables(around: Surroundings) -> dict[str, str]:
    """Return what leads a program through the gateway; empty where none is configured."""
    if around.outbound is None:
        return {}
    trust = around.outbound.trust
    return variables(
        proxy_url=around.outbound.url(),
        ca_file=str(trust.ca),
        bundle_file=str(trust.bundle),
        java_trust_store=str(trust.java),
        node_preload=str(trust.node_preload),
        wgetrc=str(trust.wgetrc),
    )


def _launch(
    manifest: Manifest,
    transport: StdioTransport,
    secrets: Mapping[str, Secret],
    folder: Path,
    program: str | None,
    mark: str,
    around: Surroundings,
) -> Launch:
    path = path_of(folder, around)
    command: tuple[str, ...]
    if isinstance(manifest.package, OwnPackage):
        # -P: no folder that happens to be here is imported.
        command = (sys.executable, "-P", "-m", f"worker.integrations.servers.{manifest.package.name}")
    else:
        command = (_found(transport.command or program, path),)
    revealed = {name: _text(name, secret) for name, secret in secrets.items()}
    passed_on = {name: around.environ[name] for name in _PASSED_ON if name in around.environ}
    home = folder / "home"
    outbound = proxy_variables(around)
    ours = {"PATH": path, "HOME": str(home), MARK: mark}
    if isinstance(manifest.package, OwnPackage):
        ours["PYTHONPATH"] = str(_OWN_CODE)
    return Launch(
        args=(*command, *transport.args),
        # The gateway's variables win: a manifest cannot lead a server past it.
        env={**passed_on, **manifest.environment, **revealed, **ours, **outbound},
        cwd=home,
        hidden=_hidden(manifest, revealed, outbound.get("HTTPS_PROXY")),
    )


def _call(manifest: Manifest, transport: HttpTransport, secrets: Mapping[str, Secret], around: Surroundings) -> Call:
    revealed = {name: _text(name, secret) for name, secret in secrets.items()}
    for name, value in revealed.items():
        reason = why_unusable(value)
        if reason is not None:
            raise IntegrationError(Category.INVALID_STATE, f"the secret for {name} cannot be sent: {reason}")
    proxy_url = None if around.outbound is None else around.outbound.url()
    return Call(
        url=transport.url,
        headers={**transport.headers, **revealed},
        proxy_url=proxy_url,
        hidden=_hidden(manifest, revealed, proxy_url),
    )


def _hidden(manifest: Manifest, revealed: Mapping[str, str], proxy_url: str | None) -> tuple[str, ...]:
    """What must not stand in a log: each secret, also without its prefix, and the proxy's token."""
    found = list(revealed.values())
    found += [revealed[name].removeprefix(reference.prefix) for name, reference in manifest.secrets.items()]
    token = None if proxy_url is None else urlsplit(proxy_url).password
    return (*found, *(() if token is None else (token,)))


def _found(command: str | None, path: str) -> str:
    if command is None:
        raise provider_error("the package has no program of its own; name one in a manifest's transport.command")
    program = shutil.which(command, path=path)
    if program is None:
        raise provider_error(f"there is no program {command}")
    return program


# Secrets ----------------------------------------------------------------------------------------------


def _resolve(name: str, reference: SecretReference, around: Surroundings) -> Secret:
    match reference:
        case EnvironmentReference():
            value = around.environ.get(reference.env)
            if not value:
                raise _missing(name, f"set the variable {reference.env} of the worker", variable=reference.env)
            content = value.encode("utf-8", "surrogateescape")
        case FileReference():
            content = _read(name, Path(reference.file))
        case CredentialReference():
            if around.credentials_dir is None:
                raise _missing(name, "set SALLYPORT_WORKER_INTEGRATIONS_CREDENTIALS_DIR of the worker")
            content = _read(name, around.credentials_dir / reference.credential)
        case _:
            assert_never(reference)
    return Secret(reference.prefix.encode() + content)


def _read(name: str, path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise _missing(name, f"{path} cannot be read ({error.strerror})") from None
    content = content.removesuffix(b"\n")
    if not content or len(content) > MAX_SECRET_BYTES or b"\0" in content:
        raise _missing(name, f"{path} is empty, longer than {MAX_SECRET_BYTES} bytes, or not a text")
    return content


def _missing(name: str, what_to_do: str, *, variable: str | None = None) -> IntegrationError:
    return IntegrationError(
        Category.INVALID_STATE, f"the secret for {name} is missing: {what_to_do}", {"variable": variable or name}
    )


def _text(name: str, secret: Secret) -> str:
    try:
        return secret.reveal().decode("utf-8")
    except UnicodeDecodeError:
        raise IntegrationError(Category.INVALID_STATE, f"the secret for {name} is not UTF-8") from None
