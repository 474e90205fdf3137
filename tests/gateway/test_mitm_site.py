"""What the addon asks: the same settings, the same answers; without mitmproxy."""

import json
from pathlib import Path

import pytest
import yaml

from gateway.core.authority import Refused, TargetReader
from gateway.core.decision import Mode
from gateway.mitm_site import SettingsUnusable, Site, read_site, release
from sallyport.destination import Destination
from sallyport.net.dial_error import DialError, DialFault
from sallyport.problem import Code
from sallyport.wire.http1.codec import parse_request
from sallyport.wire.http1.head import RequestHead
from sallyport_cli.keys import generate_key_files
from tests.support.aws_signature import Account, Arrived, fault_of
from tests.support.gateway_plans import SANDBOX, denied, plan, route
from tests.support.in_process import proxy_token, signing_jwk

API = Destination("https", "api.test", 443)


def settings(folder: Path, **further: object) -> Path:
    """Write the settings of a site with one route of each kind that matters here."""
    routes = [
        route("r", ["api.test"], "con_r", limits={"maxConcurrent": 1, "maxRequestBodyBytes": 5}),
        route("none", ["none.test"], "con_none"),
        route("signed", ["signed.test"], "con_r", {"type": "aws_sigv4", "region": "here", "service": "s3"}),
    ]
    (folder / "plan.json").write_bytes(plan(routes, [denied("no", "denied.test", "no")], default="passthrough"))
    (folder / "tokens.json").write_text(json.dumps({"keys": [signing_jwk()]}))
    (folder / "secret").write_text("canary-secret-1")
    document: dict[str, object] = {
        "plans": ["plan.json"],
        "tokens": {"jwks": "tokens.json"},
        "credentials": {"con_r": {"file": "secret"}},
        "network": {"allow": ["127.0.0.0/8"]},
        "upstream": {"connect_to": {"api.test:443": "127.0.0.1:4433"}},
        **further,
    }
    path = folder / "gateway.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture
async def site(tmp_path: Path) -> Site:
    return read_site(settings(tmp_path))


def head(*lines: bytes, first: bytes = b"GET /v1 HTTP/1.1", host: bytes = b"api.test") -> RequestHead:
    return parse_request(b"\r\n".join((first, b"Host: " + host, *lines)))


def code_of(caught: pytest.ExceptionInfo[Refused]) -> Code:
    return caught.value.deny.code


def test_a_token_is_wanted(site: Site) -> None:
    for value in (None, b"Negotiate x", b"Bearer a.b.c"):
        with pytest.raises(Refused) as caught:
            site.claims_of(value)
        assert code_of(caught) is Code.PROXY_AUTHENTICATION_REQUIRED
    assert site.claims_of(b"Bearer " + proxy_token().encode()).sandbox_id == SANDBOX
    site.close()


def test_a_sandbox_without_a_plan(site: Site) -> None:
    claims = site.claims_of(b"Bearer " + proxy_token("sbx_other").encode())
    with pytest.raises(Refused) as caught:
        site.table_of(claims)
    assert code_of(caught) is Code.PLAN_UNAVAILABLE
    site.close()


def test_t1_a_token_of_another_organization(site: Site) -> None:
    claims = site.claims_of(b"Bearer " + proxy_token(organization_id="org_two").encode())
    with pytest.raises(Refused) as caught:
        site.table_of(claims)
    assert code_of(caught) is Code.PROXY_AUTHENTICATION_REQUIRED
    site.close()


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"api.test:443", Mode.INTERCEPTED),
        (b"open.test:443", Mode.PASSTHROUGH),
        (b"denied.test:443", Code.DENIED_BY_PLAN),
        (b"api.test", Code.INVALID_REQUEST),
    ],
)
def test_a_connect_is_admitted_as_by_the_listener(site: Site, target: bytes, expected: Mode | Code) -> None:
    token = b"Proxy-Authorization: Bearer " + proxy_token().encode()
    asked = head(token, first=b"CONNECT " + target + b" HTTP/1.1", host=target)
    if isinstance(expected, Mode):
        admitted = site.admit_connect(asked)
        assert (admitted.mode, admitted.claims.sandbox_id) == (expected, SANDBOX)
    else:
        with pytest.raises(Refused) as caught:
            site.admit_connect(asked)
        assert code_of(caught) is expected
    site.close()


async def test_a_request_is_decided_and_counts_until_it_is_released(site: Site) -> None:
    claims = site.claims_of(b"Bearer " + proxy_token().encode())
    decided = await site.decide(head(), claims, TargetReader(API))
    assert b"\r\nAuthorization: Bearer canary-secret-1\r\n" in decided.block
    assert decided.upstream.destination == API
    with pytest.raises(Refused) as caught:
        await site.decide(head(), claims, TargetReader(API))
    assert code_of(caught) is Code.RATE_LIMITED
    assert decided.route is not None
    release(decided.route.limit)
    with pytest.raises(Refused) as caught:
        await site.decide(head(b"Content-Length: 6"), claims, TargetReader(API))
    assert code_of(caught) is Code.BODY_TOO_LARGE
    assert decided.route.limit is not None
    assert decided.route.limit.open == 0
    site.close()


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("none.test", Code.CREDENTIAL_UNAVAILABLE),
        ("signed.test", Code.CREDENTIAL_UNAVAILABLE),
        ("denied.test", Code.DENIED_BY_PLAN),
    ],
)
async def test_a_refusal_is_the_gateway_s(site: Site, host: str, expected: Code) -> None:
    claims = site.claims_of(b"Bearer " + proxy_token().encode())
    with pytest.raises(Refused) as caught:
        await site.decide(head(host=host.encode()), claims, TargetReader(Destination("https", host, 443)))
    assert code_of(caught) is expected
    site.close()


async def test_an_address_is_checked_before_it_is_named(site: Site) -> None:
    assert await site.address_of("api.test", 443) == ("127.0.0.1", 4433)
    for host in ("10.0.0.1", "169.254.169.254", "metadata.google.internal"):
        with pytest.raises(DialError) as caught:
            await site.address_of(host, 80)
        assert caught.value.kind is DialFault.ADDRESS_REFUSED
    site.close()


async def test_neither_the_proxy_nor_a_gateway_beside_it_is_an_upstream(tmp_path: Path) -> None:
    listen = {"proxy": "127.0.0.1:3128", "tunnel": "off", "admin": "localhost:9900"}
    site = read_site(settings(tmp_path, listen=listen))
    site.listen_at([("0.0.0.0", 8080), ("::", 8080)])
    assert await site.address_of("127.0.0.1", 8081) == ("127.0.0.1", 8081)
    for port in (3128, 8080, 9900):
        with pytest.raises(DialError) as caught:
            await site.address_of("127.0.0.1", port)
        assert caught.value.kind is DialFault.ADDRESS_REFUSED
    site.close()


@pytest.mark.parametrize(
    ("further", "reason"),
    [
        ({"plans": ["missing.json"]}, "missing.json"),
        ({"tokens": {"public_key": "missing.pem"}}, "missing.pem"),
        ({"tokens": {"public_key": "secret"}}, "PEM"),
        ({"upstream": {"proxy": "http://127.0.0.1:1"}}, "upstream.proxy"),
        ({"what": 1}, "what"),
    ],
)
async def test_settings_that_cannot_be_used_are_told(tmp_path: Path, further: dict[str, object], reason: str) -> None:
    with pytest.raises(SettingsUnusable, match=reason):
        read_site(settings(tmp_path, **further))


async def test_keys_may_be_one(tmp_path: Path) -> None:
    files = generate_key_files(tmp_path / "keys")
    site = read_site(settings(tmp_path, tokens={"public_key": str(files.public)}))
    with pytest.raises(Refused):
        site.claims_of(b"Bearer " + proxy_token().encode())
    site.close()


async def test_a_request_is_signed_where_its_bodys_hash_is_told(tmp_path: Path) -> None:
    keys = {"kind": "aws_session", "accessKeyId": "ASIAONE", "secretAccessKey": "canary-secret", "sessionToken": "t0k"}
    (tmp_path / "keys").write_text(json.dumps(keys))
    site = read_site(settings(tmp_path, credentials={"con_r": {"file": "keys"}}))
    claims = site.claims_of(b"Bearer " + proxy_token().encode())
    signed = Destination("https", "signed.test", 443)
    asked = head(b"Authorization: theirs", first=b"PUT /k?a=1&X-Amz-Signature=0 HTTP/1.1", host=b"signed.test")
    decided = await site.decide(asked, claims, TargetReader(signed))
    first, *lines = decided.block[:-4].decode().split("\r\n")
    pairs = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    arrived = Arrived(method="PUT", target=first.split(" ")[1], fields=pairs, body=b"")
    account = Account(access_key_id="ASIAONE", secret_access_key="canary-secret", session_token="t0k")
    assert fault_of(arrived, account, "s3", "here", site.clock.wall) == ""
    assert arrived.target == "/k?a=1"
    with pytest.raises(Refused) as caught:
        await site.decide(head(b"Content-Length: 1", host=b"signed.test"), claims, TargetReader(signed))
    assert code_of(caught) is Code.INVALID_REQUEST
    site.close()
