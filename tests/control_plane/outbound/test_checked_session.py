"""What goes out: by https, to checked addresses, in time. What it means for providers: oauth/test_provider_session."""

import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_network

import aiohttp
import pytest

from control_plane.outbound.checked_session import CheckedSession, Unanswered, retry_after_seconds
from sallyport.address_policy import AddressPolicy
from sallyport.net.dial import Dialer
from sallyport.net.resolve import Resolver
from sallyport.net.tls import client_context
from tests.support.authorization_server import ELSEWHERE, HUGE, AuthorizationServer, plain
from tests.support.scripted_http import scripted_http

LOOPBACK = AddressPolicy(allow=(ip_network("127.0.0.0/8"),))


async def status(response: aiohttp.ClientResponse) -> int:
    return response.status


def session_to(provider: AuthorizationServer, policy: AddressPolicy, *answers: str) -> CheckedSession:
    return CheckedSession(Dialer(policy, Resolver(lambda host: answers)), client_context(str(provider.ca_file)))


@pytest.fixture
async def session(provider: AuthorizationServer) -> AsyncIterator[CheckedSession]:
    opened = session_to(provider, LOOPBACK, "127.0.0.1")
    yield opened
    await opened.close()


async def unanswered(session: CheckedSession, url: str, seconds: float = 5.0) -> str:
    with pytest.raises(Unanswered) as caught:
        await session.ask("POST", url, b"body", {}, seconds, status)
    return caught.value.reason


async def test_every_answer_is_read_and_no_redirect_followed(
    session: CheckedSession, provider: AuthorizationServer
) -> None:
    provider.misbehave(plain(500), ELSEWHERE)
    url = provider.url + "/token"
    assert await session.ask("POST", url, b"", {}, 5.0, status) == 500
    assert await session.ask("POST", url, b"", {}, 5.0, status) in (301, 302, 303, 307, 308)
    assert repr(session) == "<CheckedSession>"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:1/x", "has a URL that cannot be used: https is expected"),
        ("nonsense", "has a URL that cannot be used"),
        ("https://169.254.169.254/x", "cannot be reached: address_refused"),
        ("https://[::1]/x", "cannot be reached: address_refused"),
        ("https://2130706433/x", "has a URL that cannot be used"),
        ("https://127.0.0.1:1/x", "cannot be reached"),
    ],
)
async def test_what_is_never_asked(session: CheckedSession, url: str, reason: str) -> None:
    assert (await unanswered(session, url)).startswith(reason)


@pytest.mark.parametrize("answers", [("127.0.0.1",), ("8.8.8.8", "127.0.0.1")])
async def test_a_name_that_leads_inwards_is_not_asked(provider: AuthorizationServer, answers: tuple[str, ...]) -> None:
    inwards = session_to(provider, AddressPolicy(), *answers)
    assert await unanswered(inwards, f"https://name.test:{provider.port}/x") == "cannot be reached: address_refused"
    await inwards.close()
    assert provider.seen == []


async def test_who_hangs_is_given_up(session: CheckedSession, provider: AuthorizationServer) -> None:
    with provider.held():
        assert await unanswered(session, provider.url + "/token", 0.5) == "did not answer in time"


async def test_a_link_is_kept_if_its_answer_was_read_and_cut_if_not(
    session: CheckedSession, provider: AuthorizationServer
) -> None:
    async def whole(response: aiohttp.ClientResponse) -> asyncio.Transport:
        assert response.connection is not None
        transport = response.connection.transport
        assert transport is not None
        await response.read()
        return transport

    async def head(response: aiohttp.ClientResponse) -> asyncio.Transport:
        assert response.connection is not None
        assert response.connection.transport is not None
        return response.connection.transport

    provider.misbehave(HUGE, HUGE, HUGE)
    url = provider.url + "/token"
    first = await session.ask("POST", url, b"", {}, 5.0, whole)
    assert not first.is_closing()
    assert await session.ask("POST", url, b"", {}, 5.0, head) is first
    assert first.is_closing()
    assert await session.ask("POST", url, b"", {}, 5.0, whole) is not first


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7), ("99", 60), ("", 0), ("-1", 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("٣", 0), ("9" * 12, 0)],
)
def test_retry_after(text: str, seconds: int) -> None:
    assert retry_after_seconds(text, 60) == seconds


async def test_this_machine_may_be_asked_in_the_clear_where_that_is_meant(provider: AuthorizationServer) -> None:
    dialer = Dialer(LOOPBACK, Resolver(lambda host: ("127.0.0.1",)))
    trust = client_context(str(provider.ca_file))
    session = CheckedSession(dialer, trust, is_plain_on_loopback=True)
    with scripted_http() as plain_server:
        assert await session.ask("GET", f"{plain_server.url}/x", None, {}, 5.0, status) == 200
        port = plain_server.url.rpartition(":")[2]
        assert await session.ask("GET", f"http://localhost:{port}/x", None, {}, 5.0, status) == 200
        # By a name that only leads there it is another place's, whatever is there.
        assert "https is expected" in await unanswered(session, f"http://gateway.test:{port}/x")
    await session.close()
    session = CheckedSession(Dialer(AddressPolicy(), Resolver()), trust, is_plain_on_loopback=True)
    assert await unanswered(session, "http://127.0.0.1:1/x") == "cannot be reached: address_refused"
    await session.close()
