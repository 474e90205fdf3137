"""github.com as a git server: `git http-backend` as CGI (RFC 3875) over bare repositories in one folder."""

import asyncio
import base64
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path

from aiohttp import web

from demo.ledger import Expected, Ledger, Presence, guarded_application

HOST = "github.com"
REPOSITORY = "acme/widgets.git"
_CHUNK_BYTES = 64 * 1024
# git identifies whoever writes a commit; the identity is the demonstration's own, wherever it runs.
IDENTITY = {
    "GIT_AUTHOR_NAME": "Demo",
    "GIT_AUTHOR_EMAIL": "demo@example.com",
    "GIT_COMMITTER_NAME": "Demo",
    "GIT_COMMITTER_EMAIL": "demo@example.com",
}


def git_application(ledger: Ledger, token: str, root: Path, search_path: str) -> web.Application:
    """Serve every repository under `root`; accepts basic authentication as x-access-token and nothing else."""
    pair = base64.b64encode(f"x-access-token:{token}".encode()).decode()
    application = guarded_application(ledger, Expected(header="Authorization", value=f"Basic {pair}"), _refuse)

    async def serve(request: web.Request) -> web.StreamResponse:
        return await _run_backend(request, root, search_path)

    application.router.add_route("*", "/{path:.*}", serve)
    return application


async def make_repository(root: Path, search_path: str) -> None:
    """Make the bare repository with one commit on main, ready to be cloned and pushed to."""
    bare = root / REPOSITORY
    bare.mkdir(parents=True)
    seed = root / "seed"
    seed.mkdir()
    (seed / "README").write_text("widgets\n")
    environment = {"PATH": search_path, "HOME": str(root), "GIT_CONFIG_NOSYSTEM": "1", **IDENTITY}
    for folder, *arguments in (
        (bare, "init", "--quiet", "--bare", "--initial-branch=main"),
        (bare, "config", "http.receivepack", "true"),
        (seed, "init", "--quiet", "--initial-branch=main"),
        (seed, "add", "README"),
        (seed, "commit", "--quiet", "--message", "First widget"),
        (seed, "push", "--quiet", str(bare), "main"),
    ):
        process = await asyncio.create_subprocess_exec("git", *arguments, cwd=folder, env=environment, stdin=DEVNULL)
        if await process.wait() != 0:
            raise RuntimeError(f"git {arguments[0]} failed while preparing the repository")


def _refuse(request: web.Request, presence: Presence) -> web.Response:
    text = "Repository not found." if presence is Presence.ABSENT else "Invalid username or token."
    return web.Response(status=401, text=text, headers={"WWW-Authenticate": 'Basic realm="GitHub"'})


async def _run_backend(request: web.Request, root: Path, search_path: str) -> web.StreamResponse:
    process = await asyncio.create_subprocess_exec(
        "git", "http-backend", stdin=PIPE, stdout=PIPE, env=_cgi_environment(request, root, search_path)
    )
    try:
        async with asyncio.TaskGroup() as both_ways:
            # A large push fills both pipes at once: reading must not wait until everything was written.
            both_ways.create_task(_feed(request, process), name="feed git http-backend")
            answer = both_ways.create_task(_answer(request, process), name="read git http-backend")
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    return answer.result()


def _cgi_environment(request: web.Request, root: Path, search_path: str) -> dict[str, str]:
    environment = {
        "PATH": search_path,
        "GIT_PROJECT_ROOT": str(root),
        "GIT_HTTP_EXPORT_ALL": "1",
        "GIT_CONFIG_NOSYSTEM": "1",
        "HOME": str(root),
        "REQUEST_METHOD": request.method,
        "PATH_INFO": request.path,
        "QUERY_STRING": request.query_string,
        "CONTENT_TYPE": request.headers.get("Content-Type", ""),
        "REMOTE_USER": "x-access-token",
        "REMOTE_ADDR": "127.0.0.1",
        "SERVER_PROTOCOL": "HTTP/1.1",
    }
    optional = {
        "CONTENT_LENGTH": request.headers.get("Content-Length"),
        "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding"),
        "GIT_PROTOCOL": request.headers.get("Git-Protocol"),
    }
    return environment | {name: value for name, value in optional.items() if value is not None}


async def _feed(request: web.Request, process: Process) -> None:
    if process.stdin is None:
        raise RuntimeError("git http-backend was started without a pipe to write to")
    try:
        async for chunk in request.content.iter_chunked(_CHUNK_BYTES):
            process.stdin.write(chunk)
            await process.stdin.drain()
    except (BrokenPipeError, ConnectionResetError):
        pass  # the backend answers early when it has seen enough; its answer says why
    process.stdin.close()


async def _answer(request: web.Request, process: Process) -> web.StreamResponse:
    if process.stdout is None:
        raise RuntimeError("git http-backend was started without a pipe to read from")
    answer = web.StreamResponse()
    while (line := (await process.stdout.readline()).strip()) != b"":
        name, _, value = line.decode("latin-1").partition(":")
        if name.lower() == "status":
            answer.set_status(int(value.split()[0]))
        else:
            answer.headers[name] = value.strip()
    await answer.prepare(request)
    while chunk := await process.stdout.read(_CHUNK_BYTES):
        await answer.write(chunk)
    await answer.write_eof()
    return answer
