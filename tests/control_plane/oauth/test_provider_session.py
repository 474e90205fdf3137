"""What goes out to providers: checked, bounded, and told apart without a word of theirs."""

from ipaddress import ip_network
from pathlib import Path

import pytest

from control_plane.oauth.provider_error import Fault, ProviderError
from control_plane.oauth.provider_session import ProviderSession
from sallyport.address_policy import AddressPolicy
from sallyport.net.dial import Dialer
from sallyport.net.resolve import Resolver
from sallyport.net.tls import client_context
from tests.support.authorization_server import ELSEWHERE, HUGE, AuthorizationServer, Wrong, plain


async def refused(session: ProviderSession, url: str) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await session.post(url, b"grant_type=x", {"Content-Type": "application/x-www-form-urlencoded"})
    assert "canary" not in caught.value.reason
    return caught.value


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (plain(500), "the provider answered 500"),
        (plain(429, Retry_After="7"), "the provider answered 429"),
        (plain(408), "the provider answered 408"),
        (ELSEWHERE, "redirects are not followed"),
        (HUGE, "too long"),
        (plain(200, Content_Encoding="gzip"), "coded"),
    ],
)
async def test_what_is_no_answer_may_pass(
    asking: ProviderSession, shared_provider: AuthorizationServer, wrong: Wrong, reason: str
) -> None:
    shared_provider.misbehave(wrong)
    error = await refused(asking, shared_provider.url + "/token")
    assert reason in error.reason
    assert error.fault is Fault.TEMPORARY
    assert error.retry_after == (7 if "429" in reason else 0)


async def test_a_name_is_resolved_by_us_and_verified_by_tls(
    asking: ProviderSession, shared_provider: AuthorizationServer
) -> None:
    # It leads to the provider, whose certificate is for another name.
    error = await refused(asking, f"https://provider.test:{shared_provider.port}/token")
    assert error.reason == "the provider cannot be reached"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:1/token", "https is expected"),
        ("https://user@127.0.0.1:1/token", "cannot be used"),
        ("https://169.254.169.254/token", "address_refused"),
        ("https://metadata.google.internal/token", "address_refused"),
        ("https://10.0.0.1/token", "address_refused"),
    ],
)
async def test_what_is_never_asked(asking: ProviderSession, url: str, reason: str) -> None:
    assert reason in (await refused(asking, url)).reason


@pytest.mark.parametrize("answers", [("127.0.0.1",), ("8.8.8.8", "127.0.0.1"), ("169.254.169.254",)])
async def test_a_name_that_leads_inwards_is_not_asked(
    shared_provider: AuthorizationServer, answers: tuple[str, ...]
) -> None:
    dialer = Dialer(AddressPolicy(), Resolver(lambda host: answers))
    session = ProviderSession(dialer, client_context(str(shared_provider.ca_file)))
    error = await refused(session, f"https://provider.test:{shared_provider.port}/token")
    assert error.reason == "the provider cannot be reached: address_refused"
    await session.close()


async def test_a_provider_that_hangs_is_given_up(shared_provider: AuthorizationServer, tmp_path: Path) -> None:
    dialer = Dialer(AddressPolicy(allow=(ip_network("127.0.0.0/8"),)), Resolver())
    session = ProviderSession(dialer, client_context(str(shared_provider.ca_file)), request_seconds=0.1)
    with shared_provider.held():
        error = await refused(session, shared_provider.url + "/token")
    assert error.reason == "the provider did not answer in time"
    await session.close()


async def test_nobody_there(asking: ProviderSession) -> None:
    assert (await refused(asking, "https://127.0.0.1:1/token")).reason == "the provider cannot be reached"
    assert repr(asking) == "<ProviderSession>"
