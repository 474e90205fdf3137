"""Somebody at the operator page without a browser: keeps the cookie, sends forms as the pages have them."""

import contextlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

import httpx

from tests.support.control_plane import WAIT_SECONDS, Replica

_CSRF: Final = re.compile(r'name="csrf" value="([^"]+)"')


class PageVisitor:
    """Asks for pages, and follows no redirect."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.csrf_token = ""

    async def log_in(self, key: str) -> httpx.Response:
        """Send the login form."""
        answer = await self.client.post("/page/login", data={"key": key})
        if answer.status_code == 303:
            found = _CSRF.search(await self.see("/targets"))
            assert found is not None
            self.csrf_token = found[1]
        return answer

    async def see(self, path: str, status: int = 200) -> str:
        """Return a page."""
        answer = await self.client.get(f"/page{path}")
        assert answer.status_code == status, (answer.status_code, answer.text)
        return answer.text

    async def send(self, path: str, fields: Mapping[str, Sequence[str]], status: int = 303) -> str:
        """Send a form; return where it leads, or the page it is answered with."""
        answer = await self.client.post(f"/page{path}", data={"csrf": self.csrf_token, **fields})
        assert answer.status_code == status, (answer.status_code, answer.text)
        return str(answer.headers.get("location", answer.text))


@contextlib.asynccontextmanager
async def page_visitor(
    api: Replica, role: str | None = None, organization_id: str | None = None
) -> AsyncIterator[PageVisitor]:
    """Return somebody at a control plane's page, logged in where a role is given."""
    origin = f"http://127.0.0.1:{api.plane.port}"
    async with httpx.AsyncClient(
        base_url=origin, headers={"Origin": origin}, trust_env=False, timeout=WAIT_SECONDS
    ) as client:
        visitor = PageVisitor(client)
        if role is not None:
            assert (await visitor.log_in(await page_key(api, role, organization_id))).status_code == 303
        yield visitor


async def page_key(api: Replica, role: str, organization_id: str | None = None) -> str:
    """Make an API key."""
    body = {"role": role} | ({"organizationId": organization_id} if organization_id else {})
    return str((await api.ask("POST", "/v1/api-keys", body, status=201))["key"])
