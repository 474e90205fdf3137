"""api.github.com as far as the demonstration asks it: who am I, and one repository."""

from aiohttp import web

from demo.ledger import Expected, Ledger, Presence, guarded_application

HOST = "api.github.com"
LOGIN = "octo-sandbox"


def github_application(ledger: Ledger, token: str) -> web.Application:
    """Return the API; it accepts `Authorization: Bearer <token>` and nothing else."""
    application = guarded_application(ledger, Expected(header="Authorization", value=f"Bearer {token}"), _refuse)
    application.router.add_get("/user", _user)
    application.router.add_get("/repos/{owner}/{name}", _repository)
    application.router.add_post("/repos/{owner}/{name}/issues", _open_issue)
    return application


def _refuse(request: web.Request, presence: Presence) -> web.Response:
    message = "Requires authentication" if presence is Presence.ABSENT else "Bad credentials"
    document = {"message": message, "documentation_url": "https://docs.github.com/rest", "status": "401"}
    return web.json_response(document, status=401)


async def _user(request: web.Request) -> web.Response:
    return web.json_response({"login": LOGIN, "id": 1, "type": "User"}, headers={"X-GitHub-Media-Type": "github.v3"})


async def _repository(request: web.Request) -> web.Response:
    owner, name = request.match_info["owner"], request.match_info["name"]
    return web.json_response({"full_name": f"{owner}/{name}", "private": True, "default_branch": "main"})


async def _open_issue(request: web.Request) -> web.Response:
    body = await request.json()
    return web.json_response({"number": 1, "state": "open", "title": body["title"]}, status=201)
