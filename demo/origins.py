"""One TLS listener on loopback that plays several hosts of the internet, told apart by Host.

They are OURS: they look like the real APIs as far as the clients here look, and answer 401, each in its own API's
error format, to everything that does not carry the EXACT credential. So a 200 proves that the credential was written.
"""

import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from demo import anthropic_api, git_server, github_api, openai_api
from demo.certificates import OriginFiles, write_origin_files
from demo.ledger import Ledger, Presence, guarded_application

DENIED_HOST = "paste.example.org"
UNMANAGED_HOST = "docs.example.net"
HOSTS = (
    openai_api.HOST,
    anthropic_api.HOST,
    github_api.HOST,
    git_server.HOST,
    DENIED_HOST,
    UNMANAGED_HOST,
)
# Clients send bodies that do not fit one buffer; an origin that reads them whole stops here.
_MAX_BODY_BYTES = 64 * 1024 * 1024

type OriginMaker = Callable[[Ledger], web.Application]
UNMANAGED_TEXT = "public documentation\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The credentials the origins accept, made anew for every run. Its repr says nothing."""

    openai_key: str
    anthropic_key: str
    github_token: str

    def __repr__(self) -> str:
        return "<Credentials>"

    def values(self) -> tuple[str, ...]:
        """Return every value, for those who search for them."""
        return (self.openai_key, self.anthropic_key, self.github_token)


def random_credentials() -> Credentials:
    """Return credentials that look like the providers' own, so that format checks pass."""
    return Credentials(
        openai_key="sk-proj-" + secrets.token_urlsafe(36),
        anthropic_key="sk-ant-api03-" + secrets.token_urlsafe(36),
        github_token="ghp_" + secrets.token_hex(18),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Origins:
    """The running origins: where they listen, what they received, whom a gateway must trust to reach them."""

    port: int
    hosts: tuple[str, ...]
    files: OriginFiles
    ledger: Ledger
    repositories: Path

    def connect_to(self) -> dict[str, str]:
        """Return the gateway's `upstream.connect_to`: every host that is played here, on its own port 443."""
        return {f"{host}:443": f"127.0.0.1:{self.port}" for host in self.hosts}


@asynccontextmanager
async def serve_origins(
    folder: Path, credentials: Credentials, search_path: str, further: Mapping[str, OriginMaker] | None = None
) -> AsyncIterator[Origins]:
    """Serve all origins on a free loopback port until the block ends; files go to `folder`.

    `search_path` is the PATH under which `git` is found; `further` are more hosts to play.
    """
    ledger = Ledger()
    repositories = folder / "repositories"
    await git_server.make_repository(repositories, search_path)
    files = write_origin_files(folder, [*HOSTS, *(further or {}), "127.0.0.1"])
    # git compresses what it sends, and its backend wants to decompress it itself.
    site = _site(ledger, credentials, repositories, search_path)
    for host, make_origin in (further or {}).items():
        site.add_domain(host, make_origin(ledger))
    runner = web.AppRunner(site, auto_decompress=False, shutdown_timeout=1)
    await runner.setup()
    try:
        listener = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=files.server_context())
        await listener.start()
        port = int(runner.addresses[0][1])
        yield Origins(
            port=port, hosts=(*HOSTS, *(further or {})), files=files, ledger=ledger, repositories=repositories
        )
    finally:
        await runner.cleanup()


def _site(ledger: Ledger, credentials: Credentials, repositories: Path, search_path: str) -> web.Application:
    site = web.Application(client_max_size=_MAX_BODY_BYTES)
    git = git_server.git_application(ledger, credentials.github_token, repositories, search_path)
    site.add_domain(openai_api.HOST, openai_api.openai_application(ledger, credentials.openai_key))
    site.add_domain(anthropic_api.HOST, anthropic_api.anthropic_application(ledger, credentials.anthropic_key))
    site.add_domain(github_api.HOST, github_api.github_application(ledger, credentials.github_token))
    site.add_domain(git_server.HOST, git)
    site.add_domain(DENIED_HOST, _public_application(ledger))
    site.add_domain(UNMANAGED_HOST, _public_application(ledger))
    return site


def _public_application(ledger: Ledger) -> web.Application:
    application = guarded_application(ledger, None, _never)

    async def page(request: web.Request) -> web.Response:
        return web.Response(text=UNMANAGED_TEXT)

    application.router.add_route("*", "/{path:.*}", page)
    return application


def _never(request: web.Request, presence: Presence) -> web.Response:
    raise RuntimeError("a public host expects no credential")
