import pytest
from sqlalchemy import select

from control_plane import api_keys, page_sessions
from control_plane.callers import Role
from control_plane.foundation import Foundation
from control_plane.page_sessions import SESSION_SECONDS
from control_plane.refusals import Refused
from control_plane.store.models import PageSession
from tests.support.control_plane import NOW, ORGANIZATION


async def key(base: Foundation, role: Role, ttl: int | None = None) -> tuple[str, str]:
    organization_id = ORGANIZATION if role is Role.MEMBER else None
    made = await api_keys.create(
        base.database, role, organization_id, display_name=None, ttl_seconds=ttl, created_by="x", now=NOW
    )
    return str(made["apiKeyId"]), str(made["key"])


async def test_a_session_is_its_key_s_and_ends_in_time(base: Foundation) -> None:
    key_id, secret = await key(base, Role.MEMBER)
    cookie = await page_sessions.begin(base.database, secret, NOW)
    session = await page_sessions.find(base.database, cookie, NOW + SESSION_SECONDS - 1)
    assert session is not None
    assert (session.caller.id, session.caller.organization_id) == (key_id, ORGANIZATION)
    assert repr(session) == f"<Session of {key_id}>"
    assert await page_sessions.find(base.database, cookie, NOW + SESSION_SECONDS) is None
    assert await page_sessions.find(base.database, cookie + "x", NOW) is None
    async with base.database.read() as tx:
        [row] = await tx.all(select(PageSession))
    assert cookie not in repr(vars(row))
    await page_sessions.end(base.database, cookie)
    assert await page_sessions.find(base.database, cookie, NOW) is None


async def test_a_session_ends_with_its_key(base: Foundation) -> None:
    key_id, secret = await key(base, Role.OPERATOR)
    _, brief = await key(base, Role.OPERATOR, ttl=60)
    cookies = [await page_sessions.begin(base.database, each, NOW) for each in (secret, brief)]
    assert await page_sessions.find(base.database, cookies[1], NOW + 60) is None
    await api_keys.revoke(base.database, key_id, NOW)
    assert await page_sessions.find(base.database, cookies[0], NOW) is None


async def test_only_keys_of_people_log_in(base: Foundation) -> None:
    _, service = await key(base, Role.SERVICE)
    for secret in (service, "sp_ak_" + "0" * 64, "", "é"):
        with pytest.raises(Refused, match="unauthorized"):
            await page_sessions.begin(base.database, secret, NOW)


async def test_the_oldest_session_of_a_key_makes_room(base: Foundation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_sessions, "MAX_SESSIONS", 2)
    _, secret = await key(base, Role.OPERATOR)
    cookies = [await page_sessions.begin(base.database, secret, NOW + number) for number in range(3)]
    found = [await page_sessions.find(base.database, cookie, NOW + 3) is not None for cookie in cookies]
    assert found == [False, True, True]
