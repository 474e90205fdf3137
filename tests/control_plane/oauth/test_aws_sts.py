"""Sessions of an assumed role, from an STS that verifies the signature."""

import dataclasses
import json

import pytest

from control_plane.definitions.contract import AwsSession
from control_plane.oauth.aws_sts import ask_role_session
from control_plane.oauth.provider_error import Fault, ProviderError
from control_plane.oauth.provider_session import Made, ProviderSession
from sallyport.secret import Secret
from tests.support.authorization_server import (
    ACCESS_KEY_ID,
    ROLE,
    SECRET_ACCESS_KEY,
    AuthorizationServer,
    Wrong,
    plain,
)
from tests.support.control_plane import NOW


async def ask(
    session: ProviderSession, server: AuthorizationServer, *, key: str = SECRET_ACCESS_KEY, **changes: object
) -> Made:
    server.now = lambda: NOW
    source = AwsSession(
        role_arn=ROLE,
        external_id="their id",
        session_name="sallyport",
        duration_seconds=900,
        sts_url=server.url + "/",
        region="eu-central-1",
    )
    source = dataclasses.replace(source, **changes)  # type: ignore[arg-type]  # a table of changes
    key_id, secret = Secret(ACCESS_KEY_ID.encode()), Secret(key.encode())
    return await ask_role_session(session, NOW, source=source, access_key_id=key_id, secret=secret)


async def refused(session: ProviderSession, server: AuthorizationServer, **changes: object) -> tuple[Fault, str]:
    with pytest.raises(ProviderError) as caught:
        await ask(session, server, **changes)  # type: ignore[arg-type]  # a table of changes
    assert "canary" not in caught.value.reason
    return caught.value.fault, caught.value.reason


async def test_a_session_of_the_role(asking: ProviderSession, shared_provider: AuthorizationServer) -> None:
    made = await ask(asking, shared_provider)
    assert made.expires_at == int(NOW) + 900
    assert json.loads(made.value.reveal()) == {
        "accessKeyId": "ASIAsallyport",
        "secretAccessKey": "made",
        "sessionToken": shared_provider.issued[-1],
    }
    sent = shared_provider.seen[-1]
    assert (sent["Action"], sent["Version"], sent["ExternalId"]) == ("AssumeRole", "2011-06-15", "their id")
    await ask(asking, shared_provider, external_id=None)
    assert "ExternalId" not in shared_provider.seen[-1]


async def test_what_sts_refuses(asking: ProviderSession, shared_provider: AuthorizationServer) -> None:
    wrong_key = await refused(asking, shared_provider, key="another")
    assert wrong_key == (Fault.PERMANENT, "the provider refused: SignatureDoesNotMatch")
    wrong_role = await refused(asking, shared_provider, role_arn="arn:aws:iam::1:role/other")
    assert wrong_role == (Fault.PERMANENT, "the provider refused: AccessDenied")


def error(code: str) -> bytes:
    return f'<E xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Code>{code}</Code></Error></E>'.encode()


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        (plain(400, error("Throttling")), Fault.TEMPORARY),
        (plain(400, error("canary")), Fault.PERMANENT),
        (plain(404, error("AccessDenied")), Fault.TEMPORARY),
        (plain(403, b"<E/>"), Fault.TEMPORARY),
        (plain(403, b"canary"), Fault.TEMPORARY),
        (plain(200, b"<E/>"), Fault.TEMPORARY),
        (plain(200, b'<!DOCTYPE a [<!ENTITY b "canary">]><a>&b;</a>'), Fault.TEMPORARY),
    ],
)
async def test_other_answers(
    asking: ProviderSession, shared_provider: AuthorizationServer, wrong: Wrong, fault: Fault
) -> None:
    shared_provider.misbehave(wrong)
    assert (await refused(asking, shared_provider))[0] is fault
