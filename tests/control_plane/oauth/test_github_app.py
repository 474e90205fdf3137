"""Installation tokens: asked with the App's key, always narrowed."""

import dataclasses

import pytest

from control_plane.definitions.contract import GitHubInstallationToken
from control_plane.oauth.github_app import ask_installation_token
from control_plane.oauth.provider_error import Fault, ProviderError
from control_plane.oauth.provider_session import Made, ProviderSession
from sallyport.secret import Secret
from tests.support.authorization_server import (
    APP_ID,
    APP_KEY_PEM,
    INSTALLATION,
    AuthorizationServer,
    Wrong,
    plain,
)
from tests.support.control_plane import NOW


def source(server: AuthorizationServer, **changes: object) -> GitHubInstallationToken:
    made = GitHubInstallationToken(
        api_base_url=server.url,
        installation_id=INSTALLATION,
        app_id="app_id",
        private_key="private_key",
        repositories=("acme/two", "acme/one"),
        permissions={"contents": "read"},
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]  # a table of changes


async def ask(
    session: ProviderSession, server: AuthorizationServer, *, key: str = APP_KEY_PEM, **changes: object
) -> Made:
    server.now = lambda: NOW
    app_id, private_key = Secret(APP_ID.encode()), Secret(key.encode())
    return await ask_installation_token(
        session, NOW, source=source(server, **changes), app_id=app_id, private_key=private_key
    )


async def refused(session: ProviderSession, server: AuthorizationServer, **changes: object) -> tuple[Fault, str]:
    with pytest.raises(ProviderError) as caught:
        await ask(session, server, **changes)  # type: ignore[arg-type]  # a table of changes
    assert "canary" not in caught.value.reason
    return caught.value.fault, caught.value.reason


async def test_a_token_of_the_named_repositories(asking: ProviderSession, shared_provider: AuthorizationServer) -> None:
    made = await ask(asking, shared_provider)
    assert made == Made(Secret(shared_provider.issued[-1].encode()), int(NOW) + 3600)
    assert shared_provider.seen[-1] == {"repositories": ["one", "two"], "permissions": {"contents": "read"}}


async def test_without_repositories_nobody_is_asked(
    asking: ProviderSession, shared_provider: AuthorizationServer
) -> None:
    before = shared_provider.asked["installation"]
    assert (await refused(asking, shared_provider, repositories=()))[0] is Fault.REQUEST
    assert shared_provider.asked["installation"] == before


async def test_what_github_refuses(asking: ProviderSession, shared_provider: AuthorizationServer) -> None:
    gone = await refused(asking, shared_provider, installation_id="1")
    assert gone == (Fault.PERMANENT, "the installation is gone")
    beyond = await refused(asking, shared_provider, repositories=("acme/missing",))
    assert beyond == (Fault.REQUEST, "the installation does not reach every bound repository")
    foreign = await refused(asking, shared_provider, repositories=("other/one",))
    assert foreign == (Fault.REQUEST, "the installation is not of the bound repositories' owner")
    unusable = await refused(asking, shared_provider, key="-----BEGIN nothing")
    assert unusable == (Fault.PERMANENT, "the App's private key cannot be used")


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        (plain(401), Fault.PERMANENT),
        (plain(403), Fault.PERMANENT),
        (plain(403, Retry_After="60"), Fault.TEMPORARY),
        (plain(403, x_ratelimit_remaining="0"), Fault.TEMPORARY),
        (plain(418), Fault.TEMPORARY),
        (plain(201), Fault.TEMPORARY),
        (plain(201, b'{"token": "canary", "expires_at": "canary"}'), Fault.TEMPORARY),
        (plain(201, b'{"token": 1, "expires_at": "2027-01-01T00:00:00Z"}'), Fault.TEMPORARY),
    ],
)
async def test_other_answers(
    asking: ProviderSession, shared_provider: AuthorizationServer, wrong: Wrong, fault: Fault
) -> None:
    shared_provider.misbehave(wrong)
    assert (await refused(asking, shared_provider))[0] is fault
