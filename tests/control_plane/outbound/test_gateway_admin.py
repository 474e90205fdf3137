"""How gateways are asked: with a token by TLS alone, in time, and no more is read than a list can be."""

from collections.abc import AsyncIterator
from ipaddress import ip_network

import pytest

from control_plane.outbound.checked_session import CheckedSession, Unanswered
from control_plane.outbound.gateway_admin import GatewayAdmin
from sallyport.address_policy import AddressPolicy
from sallyport.net.dial import Dialer
from sallyport.net.resolve import Resolver
from sallyport.net.tls import client_context
from tests.support.authorization_server import AuthorizationServer, plain
from tests.support.scripted_http import scripted_http

LOOPBACK = AddressPolicy(allow=(ip_network("127.0.0.0/8"),))
TOKEN = "token-canary-77aa"


@pytest.fixture
async def admin(provider: AuthorizationServer) -> AsyncIterator[GatewayAdmin]:
    dialer = Dialer(LOOPBACK, Resolver(lambda host: ("127.0.0.1",)))
    session = CheckedSession(dialer, client_context(str(provider.ca_file)), is_plain_on_loopback=True)
    yield GatewayAdmin(session, 5.0)
    await session.close()


async def test_no_token_goes_without_tls(admin: GatewayAdmin) -> None:  # that it goes with it: tests/flow
    with scripted_http() as gateway:
        gateway.body = b"[]"
        assert await admin.get(f"{gateway.url}/", "/v1/denials", {"sandboxId": "sbx_1"}, TOKEN) == b"[]"
        assert gateway.asked[0].path == "/v1/denials?sandboxId=sbx_1"
        assert gateway.asked[0].authorization is None


async def test_anything_but_a_200_is_no_answer(admin: GatewayAdmin, provider: AuthorizationServer) -> None:
    provider.misbehave(plain(500))
    with pytest.raises(Unanswered, match="answers 500"):
        await admin.get(provider.url, "/user/installations/1", {}, TOKEN)
    with pytest.raises(Unanswered, match="https is expected"):
        await admin.get("http://gateway.example.com", "/v1/denials", {}, TOKEN)
    assert TOKEN not in repr(admin)
