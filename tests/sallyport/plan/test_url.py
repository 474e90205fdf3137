import pytest

from sallyport.destination import Destination
from sallyport.plan.url import Url, UrlError, split_url


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://api.example.com", Url(Destination("https", "api.example.com", 443), "", None)),
        ("HTTP://API.example.com:0080/x?", Url(Destination("http", "api.example.com", 80), "/x", "")),
        ("wss://[::1]:8443/x/../y?a=?&b", Url(Destination("https", "::1", 8443), "/x/../y", "a=?&b")),
        ("ws://localhost", Url(Destination("http", "localhost", 80), "", None)),
    ],
)
def test_a_url_comes_apart(text: str, expected: Url) -> None:
    assert split_url(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "api.example.com",
        "//api.example.com",
        "https:/api.example.com",
        "https://",
        "ftp://api.example.com",
        "https://api.example.com#x",
        "https://api.example.com/#",
        "https://api.example.com/ x",
        "https://api.example.com/ü",
        "https://api.example.com/\n",
        "https://api.example.com:0",
        "https://api.example.com\\@evil.test",
        pytest.param("https://user:hunter2@api.example.com", id="P6-userinfo"),
    ],
)
def test_other_urls_are_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(UrlError) as refused:
        split_url(text)
    assert "hunter2" not in str(refused.value)
