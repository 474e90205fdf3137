import pytest

from sallyport.destination import Destination


@pytest.mark.parametrize(
    ("destination", "authority", "host_port", "origin"),
    [
        (
            Destination("https", "api.example.com", 443),
            "api.example.com",
            "api.example.com:443",
            "https://api.example.com",
        ),
        (
            Destination("https", "api.example.com", 80),
            "api.example.com:80",
            "api.example.com:80",
            "https://api.example.com:80",
        ),
        (Destination("http", "::1", 80), "[::1]", "[::1]:80", "http://[::1]"),
        (Destination("http", "::1", 8080), "[::1]:8080", "[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_a_destination_is_spelled_for_its_place(
    destination: Destination, authority: str, host_port: str, origin: str
) -> None:
    assert destination.authority == authority
    assert destination.host_port == host_port
    assert destination.origin == origin
