"""An origin that counts: every POST carries an id of its own, and how often each arrived is known afterwards."""

from collections import Counter

from aiohttp import web

from demo.ledger import Expected, Ledger, Presence, guarded_application

COUNTING_HOST = "count.example.com"


class Arrivals:
    """How often each id arrived with the exact credential; shared between the origin's thread and the test's."""

    def __init__(self) -> None:
        self.ids: Counter[str] = Counter()


def counting_application(ledger: Ledger, token: str, arrivals: Arrivals) -> web.Application:
    """Return an application that takes items and accepts a bearer token and nothing else."""
    application = guarded_application(ledger, Expected(header="Authorization", value=f"Bearer {token}"), _refuse)

    async def take(request: web.Request) -> web.Response:
        item = (await request.read()).decode("ascii")
        arrivals.ids[item] += 1
        return web.Response(text=item)

    application.router.add_post("/items", take)
    return application


def _refuse(request: web.Request, presence: Presence) -> web.Response:
    return web.Response(status=401, text=f"credential {presence.value}")
