"""Interception CAs: one per sandbox, renewed over the same key."""

import asyncio
from typing import Any

import orjson
import pytest
from cryptography import x509

from control_plane import sandboxes
from control_plane.authorities import RENEW_AHEAD_SECONDS, Authorities
from control_plane.foundation import Foundation
from control_plane.refusals import Refused
from control_plane.store.models import InterceptionAuthority
from sallyport.net.interception import parse_authority
from tests.support.control_plane import NOW, ORGANIZATION, SANDBOX

DAY = 86_400


@pytest.fixture
async def authorities(base: Foundation) -> Authorities:
    for sandbox_id in (SANDBOX, "sbx_two"):
        await sandboxes.create_sandbox(
            base.database, ORGANIZATION, sandbox_id=sandbox_id, profile_id=None, version=None, now=NOW
        )
    return Authorities(base.database, base.vault)


async def given(authorities: Authorities, sandbox_id: str = SANDBOX, at: float = NOW) -> dict[str, Any]:
    answer = orjson.loads(await authorities.for_gateway(sandbox_id, at))
    assert isinstance(answer, dict)
    return answer


async def test_a_gateway_can_issue_with_what_it_gets(authorities: Authorities) -> None:
    answer = await given(authorities)
    authority = parse_authority(answer["certificatePem"].encode(), answer["privateKeyPem"].encode(), SANDBOX)
    assert authority.is_current(NOW)
    certificate = x509.load_pem_x509_certificate(answer["certificatePem"].encode())
    assert SANDBOX in certificate.subject.rfc4514_string()
    assert answer["notAfter"] == certificate.not_valid_after_utc.timestamp()


async def test_replicas_that_make_it_at_once_agree(base: Foundation, authorities: Authorities) -> None:
    others = [Authorities(base.database, base.vault) for _ in range(4)]
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(given(each)) for each in others]
    assert len({str(each.result()) for each in asked}) == 1
    assert (await given(authorities, "sbx_two"))["privateKeyPem"] != asked[0].result()["privateKeyPem"]


async def test_it_is_renewed_over_the_same_key_before_it_ends(authorities: Authorities) -> None:
    first = await given(authorities)
    ends_at = int(first["notAfter"])
    assert await given(authorities, at=ends_at - RENEW_AHEAD_SECONDS - 1) == first
    renewed = await given(authorities, at=ends_at - RENEW_AHEAD_SECONDS)
    assert renewed["privateKeyPem"] == first["privateKeyPem"]
    assert int(renewed["notAfter"]) > ends_at + 20 * DAY
    assert renewed["certificatePem"] == await authorities.certificate(SANDBOX, ends_at - DAY)


async def test_the_key_is_stored_encrypted_and_goes_with_the_sandbox(
    base: Foundation, authorities: Authorities
) -> None:
    await given(authorities)
    async with base.database.read() as tx:
        row = await tx.get(InterceptionAuthority, SANDBOX)
    assert row is not None
    assert b"PRIVATE KEY" not in row.private_key
    await sandboxes.delete_sandbox(base.database, SANDBOX, NOW)
    async with base.database.read() as tx:
        assert await tx.get(InterceptionAuthority, SANDBOX) is None
    with pytest.raises(Refused, match="sandbox_not_found"):
        await given(authorities)
