"""A server is told by its base URL, and only by https."""

import pytest
from pydantic import ValidationError

from control_plane.definitions.github.site import GITHUB_COM, ServerTargetConfig, TargetConfig, server_site


def test_github_com_is_three_hosts() -> None:
    site = TargetConfig().site
    assert site is GITHUB_COM
    assert (site.web_host, site.api.host, site.uploads.host) == ("github.com", "api.github.com", "uploads.github.com")


def test_a_server_is_one_host_with_paths() -> None:
    site = ServerTargetConfig.model_validate({"baseUrl": "https://GitHub.Acme.Example"}).site
    assert {site.web_host, site.api.host, site.uploads.host} == {"github.acme.example"}
    assert site.rest_url == "https://github.acme.example/api/v3"
    assert site.web_ports is site.api.ports is site.uploads.ports is None


@pytest.mark.parametrize(
    ("base_url", "web_url", "ports"),
    [
        ("https://ghe.example:443", "https://ghe.example", None),
        ("https://ghe.example:8443", "https://ghe.example:8443", (8443,)),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443", (8443,)),
    ],
)
def test_a_port_is_listed_where_it_is_not_the_usual(base_url: str, web_url: str, ports: object) -> None:
    site = server_site(base_url)
    assert (site.web_url, site.web_ports) == (web_url, ports)


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"baseUrl": "http://ghe.example"},
        {"baseUrl": "https://ghe.example/api/v3"},
        {"baseUrl": "ghe.example"},
        {"baseUrl": "https://ghe.example", "appSlug": "Agents"},
        {"baseUrl": "https://ghe.example", "appSlug": "../settings"},
    ],
)
def test_what_is_no_server_is_refused(members: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        ServerTargetConfig.model_validate(members)
