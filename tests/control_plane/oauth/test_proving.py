"""An account counts once a token of the member's own has seen it."""

import dataclasses

import pytest

from control_plane.definitions.contract import ConfigToProve, TokenCall
from control_plane.oauth.provider_error import Fault, ProviderError
from control_plane.oauth.provider_session import ProviderSession
from control_plane.oauth.proving import prove
from control_plane.oauth.token_endpoint import Client
from sallyport.secret import Secret
from tests.support.authorization_server import (
    CLIENT_ID,
    CLIENT_SECRET,
    INSTALLATION,
    AuthorizationServer,
    plain,
)

CLIENT = Client(Secret(CLIENT_ID.encode()), Secret(CLIENT_SECRET.encode()))


def claim(server: AuthorizationServer, installation: str = INSTALLATION) -> ConfigToProve:
    return ConfigToProve(
        config={},
        code=server.offer_code(),
        token=TokenCall(url=server.url + "/token", client_authentication="post"),
        url=f"{server.url}/user/installations/{installation}",
    )


async def test_what_is_the_member_s(asking: ProviderSession, shared_provider: AuthorizationServer) -> None:
    made = claim(shared_provider)
    await prove(asking, made, CLIENT)
    with pytest.raises(ProviderError, match="invalid_grant"):
        await prove(asking, made, CLIENT)  # the code was used


async def test_what_is_another_s(asking: ProviderSession, shared_provider: AuthorizationServer) -> None:
    with pytest.raises(ProviderError, match="does not show") as caught:
        await prove(asking, claim(shared_provider, "778"), CLIENT)
    assert caught.value.fault is Fault.PERMANENT
    with pytest.raises(ProviderError, match="invalid_grant"):
        await prove(asking, dataclasses.replace(claim(shared_provider), code="made-up"), CLIENT)


async def test_what_could_not_be_seen(asking: ProviderSession, shared_provider: AuthorizationServer) -> None:
    shared_provider.misbehave(plain(200, b'{"access_token": "t"}'), plain(418))
    with pytest.raises(ProviderError) as caught:
        await prove(asking, claim(shared_provider), CLIENT)
    assert caught.value.fault is Fault.TEMPORARY
