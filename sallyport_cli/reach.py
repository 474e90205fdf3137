"""How a command reaches a gateway: one that was started for it, or one that runs already."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from control_client.gateway import GatewayError, fetch_ca
from sallyport.claims import AUDIENCE_PROXY
from sallyport_cli import keys
from sallyport_cli.env import read_token, with_token
from sallyport_cli.failure import bad_input, environment
from sallyport_cli.files import create_file, read_file
from sallyport_cli.plan import read_plan
from sallyport_cli.settings import is_given, read_document, read_settings
from sallyport_cli.standalone import StandaloneGateway, standalone_gateway
from sallyport_cli.times import now

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from gateway.config import GatewayConfig
    from sallyport.plan.model import CompiledRuntimePlan

# A command that runs longer than a lease is a service, and wants a gateway of its own.
TOKEN_SECONDS = 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """A gateway as a sandbox process reaches it: host:port and a proxy token, which no repr shows.

    By a sandboxd the token is empty: it has its own. `withheld` are the variables that hold credentials: whoever speaks
    to the gateway must not see them.
    """

    proxy_address: str
    token: str
    ca_pem: bytes
    withheld: frozenset[str]
    started: StandaloneGateway | None = None

    @property
    def proxy_url(self) -> str:
        """The URL for HTTP_PROXY; the token is its password."""
        url = f"http://{self.proxy_address}"
        return with_token(url, self.token) if self.token else url

    def __repr__(self) -> str:
        return f"<Reach {self.proxy_address}>"


@contextlib.contextmanager
def started(
    directory: Path,
    inherited: Mapping[str, str],
    *,
    config: Path | None,
    plan: Path | None,
    sandbox: str | None,
    key: Path | None,
) -> Iterator[Reach]:
    """Start a gateway for one sandbox and mint its token; stop it in the end. Raises Failure.

    The signing key never leaves this process: the gateway gets its public half.
    """
    directory.mkdir(mode=0o700, exist_ok=True)
    if config is None:
        if plan is None:
            raise bad_input("nothing says what to do with requests", "give --config, or --plan, or both")
        config = directory / "gateway.yaml"
        create_file(config, b"", mode=0o600)
    document = read_document(config)
    signer = _signer(key, has_tokens=_has_tokens(document, inherited))
    overrides = {"SALLYPORT_TOKENS_PUBLIC_KEY": str(directory / "public.pem")}
    if is_given(document, inherited, "tokens", "jwks"):
        overrides = {}
    else:
        create_file(directory / "public.pem", keys.public_pem(signer), mode=0o644)
    if not is_given(document, inherited, "interception", "ca_dir"):
        overrides["SALLYPORT_INTERCEPTION_CA_DIR"] = str(directory / "ca")
    settings = read_settings(config, {**inherited, **overrides})
    path, compiled = _chosen_plan(settings, plan, sandbox)
    # A copy: the variable's list is separated by commas, which a path of the user's may hold.
    create_file(directory / "plan.json", read_file(path), mode=0o600)
    overrides["SALLYPORT_PLANS"] = str(directory / "plan.json")
    with standalone_gateway(config, overrides, inherited, directory) as gateway:
        minted = keys.mint(
            signer,
            sandbox_id=compiled.sandbox_id,
            organization_id=compiled.organization_id,
            audience=AUDIENCE_PROXY,
            issuer=settings.tokens.issuer,
            ttl_seconds=TOKEN_SECONDS,
            now=now(),
        )
        yield Reach(
            proxy_address=gateway.proxy,
            token=minted.token,
            ca_pem=_ca(gateway.proxy, minted.token, "--key must be the private half of what the settings' tokens name"),
            withheld=credential_variables(settings),
            started=gateway,
        )


@contextlib.contextmanager
def running(inherited: Mapping[str, str], *, proxy: str, token_file: Path, config: Path | None) -> Iterator[Reach]:
    """Use a gateway that runs already. Its settings, where given, say which variables to withhold. Raises Failure."""
    token = read_token(token_file)
    address = urlsplit(with_token(proxy, token)).netloc.rpartition("@")[2]
    withheld = frozenset[str]() if config is None else credential_variables(read_settings(config, inherited))
    ca_pem = _ca(address, token, "the token must be one for this gateway, and not expired")
    yield Reach(proxy_address=address, token=token, ca_pem=ca_pem, withheld=withheld)


@contextlib.contextmanager
def by_sandboxd(address: str) -> Iterator[Reach]:
    """Use the sandboxd of this machine, which has the sandbox's token itself. Raises Failure."""
    parts = urlsplit(f"http://{address}")
    try:
        usable = parts.hostname and parts.port and parts.netloc == address and "@" not in address
    except ValueError:
        usable = False
    if not usable:
        raise bad_input("this is not the address of a sandboxd", "write host:port, such as 127.0.0.1:3129")
    try:
        ca_pem = fetch_ca(address, None)
    except GatewayError as error:
        raise environment(f"the sandbox's CA cannot be had: {error}", "is sandboxd running there?") from None
    yield Reach(proxy_address=address, token="", ca_pem=ca_pem, withheld=frozenset())


def credential_variables(settings: "GatewayConfig") -> frozenset[str]:
    """Return the names of the variables that the gateway reads credentials from."""
    from gateway.setting_kinds import EnvironmentPlace

    return frozenset(place.variable for place in settings.credentials.values() if isinstance(place, EnvironmentPlace))


def _has_tokens(document: Mapping[str, object], inherited: Mapping[str, str]) -> bool:
    return any(is_given(document, inherited, "tokens", name) for name in ("public_key", "jwks"))


def _signer(key: Path | None, *, has_tokens: bool) -> "Ed25519PrivateKey":
    if key is not None:
        return keys.read_private_key(key)
    if has_tokens:
        raise bad_input("the settings name the key that tokens are verified by", "give its private half: --key FILE")
    return keys.new_private_key()


def _chosen_plan(
    settings: "GatewayConfig", plan: Path | None, sandbox: str | None
) -> "tuple[Path, CompiledRuntimePlan]":
    candidates = [(path, read_plan(path)) for path in ((plan,) if plan is not None else settings.plans)]
    found = [each for each in candidates if sandbox in (None, each[1].sandbox_id)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(each.sandbox_id for _, each in candidates) or "none"
    if not found:
        raise bad_input(
            "there is no such plan", f"give --plan, or the --sandbox of one of the settings' plans ({known})"
        )
    raise bad_input("the settings name several plans", f"choose one by --sandbox: {known}")


def _ca(proxy: str, token: str, hint: str) -> bytes:
    try:
        return fetch_ca(proxy, token)
    except GatewayError as error:
        raise environment(f"the sandbox's CA cannot be had: {error}", hint) from None
