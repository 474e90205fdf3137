"""Where AWS answers: hosts are spelled as AWS spells them, and signed as AWS reads them."""

import re

import pytest

from control_plane.definitions.aws.services import GLOBAL, REGIONAL, SERVICES, Endpoint, regional_endpoint
from sallyport.host import normalize_host


@pytest.mark.parametrize(
    ("service", "endpoint"),
    [
        ("s3", Endpoint("s3.eu-west-1.amazonaws.com", "eu-west-1", "s3")),
        ("api.ecr", Endpoint("api.ecr.eu-west-1.amazonaws.com", "eu-west-1", "ecr")),
        ("bedrock-runtime", Endpoint("bedrock-runtime.eu-west-1.amazonaws.com", "eu-west-1", "bedrock")),
        ("email", Endpoint("email.eu-west-1.amazonaws.com", "eu-west-1", "ses")),
    ],
)
def test_a_regional_endpoint(service: str, endpoint: Endpoint) -> None:
    assert regional_endpoint(service, "eu-west-1") == endpoint


def test_what_is_global_has_no_region_of_its_own_but_sts() -> None:
    assert set(GLOBAL) & REGIONAL == {"sts"}
    assert set(SERVICES) == set(GLOBAL) | REGIONAL


@pytest.mark.parametrize("service", SERVICES)
def test_every_endpoint_is_a_host_below_amazonaws_com(service: str) -> None:
    endpoints = [GLOBAL[service]] if service in GLOBAL else []
    endpoints += [regional_endpoint(service, "eu-west-1")] if service in REGIONAL else []
    assert endpoints
    for endpoint in endpoints:
        assert normalize_host(endpoint.host) == endpoint.host
        assert endpoint.host.endswith(".amazonaws.com")
        assert re.fullmatch(r"[a-z0-9-]{1,64}", endpoint.service), "as the plan has it"
