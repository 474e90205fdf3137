"""Tokens of sandboxes and their renewal, over time."""

import asyncio

import jwt
import orjson
import pytest

from control_plane import revocations, sandboxes
from control_plane.foundation import Foundation
from control_plane.minting import RENEWAL_SECONDS, REPEAT_SECONDS, TUNNEL_SECONDS, TokenOffice
from control_plane.refusals import Refused
from control_plane.store import events
from control_plane.store.models import TokenAnswer
from sallyport.claims import AUDIENCE_RENEWAL, AUDIENCE_TUNNEL
from tests.support.control_plane import NOW, ORGANIZATION, SANDBOX


@pytest.fixture
async def office(base: Foundation) -> TokenOffice:
    for sandbox_id in (SANDBOX, "sbx_two"):
        await sandboxes.create_sandbox(
            base.database, ORGANIZATION, sandbox_id=sandbox_id, profile_id=None, version=None, now=NOW
        )
    return TokenOffice(base.database, base.vault, base.ring)


def claims(token: object) -> dict[str, object]:
    assert isinstance(token, str)
    decoded = jwt.decode(token, options={"verify_signature": False})
    assert isinstance(decoded, dict)
    return decoded


async def renew(
    office: TokenOffice, request_id: str, token: object = None, *, sid: str | None = None, at: float = NOW
) -> dict[str, object]:
    assert token is None or isinstance(token, str)
    answer = orjson.loads(await office.renew(SANDBOX, request_id, token, sid, at))
    assert isinstance(answer, dict)
    return answer


async def refused(office: TokenOffice, request_id: str, token: object = None, **more: object) -> str:
    with pytest.raises(Refused) as caught:
        await renew(office, request_id, token, **more)  # type: ignore[arg-type]  # a table of arguments
    return caught.value.code.wire


async def revoked_lineages(base: Foundation, at: float) -> list[str]:
    async with base.database.read() as tx:
        return [row.id for row in await events.revocations(tx, at) if row.kind == "sid"]


async def test_a_tunnel_token_comes_with_its_renewal(office: TokenOffice) -> None:
    minted = await office.mint_tunnel(SANDBOX, TUNNEL_SECONDS, NOW)
    tunnel, renewal = claims(minted["token"]), claims(minted["renewalToken"])
    assert (tunnel["aud"], renewal["aud"]) == (AUDIENCE_TUNNEL, AUDIENCE_RENEWAL)
    assert tunnel["sid"] == renewal["sid"]
    assert (tunnel["sub"], tunnel["org"]) == (SANDBOX, ORGANIZATION)
    assert minted["expiresAt"] == tunnel["exp"] == NOW + TUNNEL_SECONDS
    assert minted["renewalExpiresAt"] == renewal["exp"] == NOW + RENEWAL_SECONDS


async def test_a_proxy_token_has_a_lineage_of_its_own(office: TokenOffice) -> None:
    one, two = [claims((await office.mint_proxy(SANDBOX, 60, NOW))["token"]) for _ in range(2)]
    assert one["sid"] != two["sid"]
    with pytest.raises(Refused, match="sandbox_not_found"):
        await office.mint_proxy("sbx_none", 60, NOW)


async def test_the_same_request_gets_the_same_answer_for_a_minute(base: Foundation, office: TokenOffice) -> None:
    minted = await office.mint_tunnel(SANDBOX, TUNNEL_SECONDS, NOW)
    first = await renew(office, "req_1", minted["renewalToken"])
    assert claims(first["token"])["sid"] == claims(minted["token"])["sid"]
    assert await renew(office, "req_1", minted["renewalToken"], at=NOW + REPEAT_SECONDS - 1) == first
    # A gateway that died took its request id along: the token itself is enough for the same answer.
    other = await renew(office, "req_2", minted["renewalToken"], at=NOW + REPEAT_SECONDS - 1)
    assert other == first | {"requestId": "req_2"}
    assert await revoked_lineages(base, NOW) == []


async def test_a_renewal_token_used_again_later_revokes_its_lineage(base: Foundation, office: TokenOffice) -> None:
    minted = await office.mint_tunnel(SANDBOX, TUNNEL_SECONDS, NOW)
    lineage = claims(minted["token"])["sid"]
    first = await renew(office, "req_1", minted["renewalToken"])
    later = NOW + REPEAT_SECONDS
    assert await refused(office, "req_1", minted["renewalToken"], at=later) == "renewal_refused"
    assert await revoked_lineages(base, later) == [lineage]
    # The one that was not used either: nobody knows which of the two holders is the sandbox.
    assert await refused(office, "req_3", first["renewalToken"], at=later) == "renewal_refused"
    assert await refused(office, "req_4", sid=str(lineage), at=later) == "renewal_refused"
    fresh = await office.mint_tunnel(SANDBOX, TUNNEL_SECONDS, later)
    await renew(office, "req_5", fresh["renewalToken"], at=later)


async def test_renewal_tokens_that_are_used_in_turn_go_on_for_ever(base: Foundation, office: TokenOffice) -> None:
    token: object = (await office.mint_tunnel(SANDBOX, TUNNEL_SECONDS, NOW))["renewalToken"]
    for number in range(4):
        token = (await renew(office, f"req_{number}", token, at=NOW + number * 20 * 3600))["renewalToken"]
    assert await revoked_lineages(base, NOW) == []


async def test_a_vouched_renewal_keeps_the_lineage_and_uses_up_nothing(office: TokenOffice) -> None:
    one = await office.mint_tunnel(SANDBOX, TUNNEL_SECONDS, NOW)
    two = await office.mint_tunnel(SANDBOX, TUNNEL_SECONDS, NOW + 1)
    sid = str(claims(one["token"])["sid"])
    named = await renew(office, "req_1", sid=sid, at=NOW + 2)
    assert claims(named["token"])["sid"] == sid
    assert await renew(office, "req_1", at=NOW + 3) == named
    latest = await renew(office, "req_2", at=NOW + 3)
    assert claims(latest["token"])["sid"] in (sid, claims(two["token"])["sid"])
    for number, token in enumerate((one["renewalToken"], two["renewalToken"], named["renewalToken"])):
        await renew(office, f"req_later_{number}", token, at=NOW + 3600)


async def test_a_vouched_renewal_needs_a_lineage_that_lives(base: Foundation, office: TokenOffice) -> None:
    assert await refused(office, "req_1") == "renewal_refused"
    minted = await office.mint_tunnel(SANDBOX, TUNNEL_SECONDS, NOW)
    await revocations.revoke(base.database, "sid", str(claims(minted["token"])["sid"]), int(NOW) + 100, NOW)
    assert await refused(office, "req_1") == "renewal_refused"
    assert await refused(office, "req_2", minted["renewalToken"]) == "renewal_refused"


@pytest.mark.parametrize("kind", ["sandbox", "jti"])
async def test_what_is_revoked_is_not_renewed(base: Foundation, office: TokenOffice, kind: str) -> None:
    minted = await office.mint_tunnel(SANDBOX, TUNNEL_SECONDS, NOW)
    identity = SANDBOX if kind == "sandbox" else str(claims(minted["renewalToken"])["jti"])
    await revocations.revoke(base.database, kind, identity, int(NOW) + 100, NOW)
    assert await refused(office, "req_1", minted["renewalToken"]) == "renewal_refused"


async def test_tokens_that_are_no_renewal_tokens(base: Foundation, office: TokenOffice) -> None:
    minted = await office.mint_tunnel(SANDBOX, TUNNEL_SECONDS, NOW)
    other = await office.mint_tunnel("sbx_two", TUNNEL_SECONDS, NOW)
    for token in (minted["token"], other["renewalToken"], "nonsense"):
        assert await refused(office, "req_1", token) == "renewal_refused"
    assert await refused(office, "req_1", minted["renewalToken"], at=NOW + RENEWAL_SECONDS) == "renewal_refused"
    await sandboxes.delete_sandbox(base.database, SANDBOX, NOW)
    assert await refused(office, "req_1", minted["renewalToken"]) == "sandbox_not_found"


async def test_two_gateways_that_exchange_the_same_token_at_once(office: TokenOffice) -> None:
    minted = await office.mint_tunnel(SANDBOX, TUNNEL_SECONDS, NOW)
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(renew(office, f"req_{n % 2}", minted["renewalToken"])) for n in range(6)]
    assert len({each.result()["token"] for each in asked}) == 1


async def test_answers_are_kept_encrypted(base: Foundation, office: TokenOffice) -> None:
    minted = await office.mint_tunnel(SANDBOX, TUNNEL_SECONDS, NOW)
    answer = await renew(office, "req_1", minted["renewalToken"])
    async with base.database.read() as tx:
        row = await tx.get(TokenAnswer, (SANDBOX, "req_1"))
    assert row is not None
    assert str(answer["token"]).encode()[:40] not in row.answer
