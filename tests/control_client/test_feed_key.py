"""The key of a tier: where it goes, and where it does not."""

import pytest

from control_client.feed_key import FeedKey
from control_client.feed_state import Tier
from sallyport.secret import Secret


def key(feed_url: str = "http://control:7500") -> FeedKey:
    return FeedKey(Tier.ADMIN, Secret(b"sp_sk_a"), feed_url)


async def test_it_is_what_was_given_and_is_not_printed() -> None:
    assert await key().current() == await key().current(again=True) == "sp_sk_a"
    assert repr(key()) == "<FeedKey admin>"
    assert "admin key is not accepted" in key().advice


@pytest.mark.parametrize(
    ("url", "goes"),
    [
        ("https://anywhere.example/mcp", True),
        ("http://127.0.0.1:4200/mcp", True),
        ("http://localhost:4200/mcp", True),
        ("http://[::1]/mcp", True),
        ("http://control:4200/mcp", True),  # the operator sends it there in cleartext already
        ("http://elsewhere:4200/mcp", False),
        ("http://control.example:4200/mcp", False),
    ],
)
async def test_in_cleartext_it_goes_no_further_than_it_does_anyway(url: str, goes: bool) -> None:
    assert await key().fields_for(url) == ({"Authorization": "Bearer sp_sk_a"} if goes else {})


async def test_a_feed_by_tls_gives_no_leave_for_cleartext() -> None:
    assert await key("https://control").fields_for("http://control:4200/mcp") == {}
