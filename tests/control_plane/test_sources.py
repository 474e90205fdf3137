"""Which credential a route means, and where what is made is kept."""

import pytest
from sqlalchemy import delete, update

from control_plane import sources
from control_plane.definitions.contract import GitHubInstallationToken, MethodKind, OAuth2Access
from control_plane.oauth.provider_error import Fault, ProviderError
from control_plane.offered import enabled_offer
from control_plane.refusals import Refused
from control_plane.sources import Wish
from control_plane.store.models import Binding, Connection, TargetSecret
from tests.support.control_plane import CONNECTION
from tests.support.oauth_stage import APP, CLIENT, KEY, OAUTH, VARIANT, OAuthStage, typed


async def wish(stage: OAuthStage, name: str, binding_id: str | None = None) -> Wish | None:
    async with stage.base.database.read() as tx:
        offer = await enabled_offer(tx, stage.registry, VARIANT)
        connection = await tx.get(Connection, CONNECTION)
        assert connection is not None
        return await sources.wished(tx, offer, connection, name, binding_id)


async def test_what_no_resolver_is_called_like_is_stored(stage: OAuthStage) -> None:
    await stage.connect(MethodKind.API_KEY, typed("key-a"))
    assert await wish(stage, KEY) is None
    found = await wish(stage, OAUTH)
    assert found is not None
    assert isinstance(found.source, OAuth2Access)


async def test_what_is_made_for_one_question_is_never_given_for_another(stage: OAuthStage) -> None:
    await stage.connect(MethodKind.API_KEY, typed("key-a"))
    await stage.use(CONNECTION, APP, "acme/one")
    await stage.use(CONNECTION, APP, "acme/two", sandbox_id="sbx_two")
    one, two = await wish(stage, APP, "bnd_sbx_one"), await wish(stage, APP, "bnd_sbx_two")
    assert one is not None
    assert two is not None
    assert isinstance(one.source, GitHubInstallationToken)
    assert one.source.repositories == ("acme/one",)
    assert one.key != two.key
    assert one.key[2].startswith("_")
    unbound = await wish(stage, APP, "bnd_none")
    assert unbound is not None
    assert isinstance(unbound.source, GitHubInstallationToken)
    assert unbound.source.repositories == ()


async def test_a_client_s_token_stands_apart_from_another_client_s(stage: OAuthStage) -> None:
    await stage.connect(MethodKind.OAUTH2_CLIENT_CREDENTIALS, typed("s", "client_secret"), clientId="one")
    first = await wish(stage, CLIENT)
    await stage.desk.change(CONNECTION, config={"clientId": "two"}, now=stage.now)
    second = await wish(stage, CLIENT)
    assert first is not None
    assert second is not None
    assert first.key[:2] == second.key[:2] == (CONNECTION, CLIENT)
    assert first.key[2] != second.key[2]


async def test_a_binding_of_another_connection_is_none(stage: OAuthStage) -> None:
    await stage.connect(MethodKind.API_KEY, typed("key-a"))
    await stage.use(CONNECTION, APP, "acme/one")
    async with stage.base.database.write() as tx:
        await tx.run(update(Binding).values(connection_id="con_other"))
    found = await wish(stage, APP, "bnd_sbx_one")
    assert found is not None
    assert isinstance(found.source, GitHubInstallationToken)
    assert found.source.repositories == ()


async def test_configuration_that_does_not_fit_any_more(stage: OAuthStage) -> None:
    await stage.connect(MethodKind.API_KEY, typed("key-a"))
    await stage.use(CONNECTION, APP, "acme/one")
    async with stage.base.database.write() as tx:
        await tx.run(update(Binding).values(config='{"other": 1}'))
    with pytest.raises(Refused, match="binding_not_in_plan"):
        await wish(stage, APP, "bnd_sbx_one")
    async with stage.base.database.write() as tx:
        await tx.run(update(Connection).values(config='{"other": 1}'))
    with pytest.raises(Refused, match="connection_not_active"):
        await wish(stage, APP)


async def test_a_secret_the_operator_has_not_set_may_come(stage: OAuthStage) -> None:
    await stage.connect(MethodKind.API_KEY, typed("key-a"))
    async with stage.base.database.write() as tx:
        await tx.run(delete(TargetSecret))
        offer = await enabled_offer(tx, stage.registry, VARIANT)
        with pytest.raises(ProviderError, match="client_id") as caught:
            await sources.oauth_client(tx, stage.base.vault, offer)
        assert caught.value.fault is Fault.TEMPORARY
    found = await wish(stage, APP)
    assert found is not None
    async with stage.base.database.write() as tx:
        connection = await tx.get(Connection, CONNECTION)
        assert connection is not None
        with pytest.raises(ProviderError, match="app_id"):
            await sources.order(tx, stage.base.vault, connection, found)
