import pytest

from control_plane.outbound.url import url_fault


@pytest.mark.parametrize(
    ("url", "fault", "fault_with_cleartext"),
    [
        ("https://hooks.example.com/x", None, None),
        ("http://127.0.0.1:8080/x", "https is expected", None),
        ("http://localhost/x", "https is expected", None),
        ("http://[::1]:1/x", "https is expected", None),
        ("http://hooks.example.com/x", "https is expected", "https is expected, or http on loopback"),
        ("http://127.0.0.1.example.com/x", "https is expected", "https is expected, or http on loopback"),
    ],
)
def test_https_or_this_machine(url: str, fault: str | None, fault_with_cleartext: str | None) -> None:
    assert url_fault(url) == fault
    assert url_fault(url, is_plain_on_loopback=True) == fault_with_cleartext


def test_what_is_no_url() -> None:
    assert url_fault("nonsense") is not None
    assert url_fault("http://2130706433/", is_plain_on_loopback=True) is not None
