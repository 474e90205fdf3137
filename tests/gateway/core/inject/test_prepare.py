"""An Injection: what is written, what is removed for it, what may not come back (egress cases C1, C3, C14)."""

from collections.abc import Mapping

import pytest

from gateway.core.aws_keys import AwsKeys
from gateway.core.credential_cache import Credential
from gateway.core.inject.prepare import Injection, UnfitCredential
from gateway.core.route_table import InjectRoute, RouteTable
from sallyport.secret import Secret
from tests.support.plan_documents import plan_of, route_document

FIRST = "first-canary-5d41402a"
SECOND = "second-canary-7b92f3c1"
SIGV4 = {"type": "aws_sigv4", "region": "eu-1", "service": "s3"}


def credential(value: str, version: str = "1") -> Credential:
    return Credential(Secret(value.encode("latin-1")), None, version)


def route_of(auth: Mapping[str, object], **fields: object) -> InjectRoute:
    return RouteTable(plan_of([route_document("r", authInjection=auth, **fields)])).routes["r"]


def injection_of(auth: Mapping[str, object], *, scrub: bool = False, **fields: object) -> Injection:
    return Injection(route_of(auth, **fields), [credential(FIRST)], scrub=scrub)


@pytest.mark.parametrize(
    ("auth", "block", "pair"),
    [
        ({"type": "bearer"}, b"Authorization: Bearer first-canary-5d41402a\r\n", None),
        ({"type": "bearer", "header": "X-Auth"}, b"X-Auth: Bearer first-canary-5d41402a\r\n", None),
        ({"type": "basic", "username": "u"}, b"Authorization: Basic dTpmaXJzdC1jYW5hcnktNWQ0MTQwMmE=\r\n", None),
        ({"type": "header", "header": "X-Key", "prefix": "k-"}, b"X-Key: k-first-canary-5d41402a\r\n", None),
        ({"type": "query", "parameter": "key"}, b"", b"key=first-canary-5d41402a"),
    ],
)
def test_each_kind_writes_one_credential(auth: Mapping[str, object], block: bytes, pair: bytes | None) -> None:
    injection = injection_of(auth)
    # The block is the whole end of a head: the empty line stands in it too.
    assert (injection.block, injection.pair) == (block + b"\r\n", pair)
    assert injection.versions == ("1",)
    assert injection.needles is None


def session() -> Credential:
    return Credential(AwsKeys("AKIAEXAMPLE", Secret(FIRST.encode()), Secret(SECOND.encode())), None, "1")


def test_a_credential_of_another_kind_is_refused() -> None:
    resolver = {"kind": "integration_connection", "connectionId": "con_two", "secretType": "api_key"}
    further = {"additionalCredentialHeaders": [{"header": "X-Second", "credentialResolver": resolver}]}
    cases = [
        (route_of(SIGV4), [credential(FIRST)], "single value"),
        (route_of({"type": "bearer"}), [session()], "only sign"),
        (route_of(SIGV4, **further), [session(), session()], "only sign"),
    ]
    for route, credentials, why in cases:
        with pytest.raises(UnfitCredential, match=why) as caught:
            Injection(route, credentials, scrub=False)
        assert FIRST not in str(caught.value)


def test_c3_c5_keys_of_aws_are_looked_for_and_take_no_placeholders_place() -> None:
    route = route_of(SIGV4, placeholders=[{"value": "placeholder-1", "in": ["header"]}])
    injection = Injection(route, [session()], scrub=True)
    assert (injection.block, injection.replacements) == (b"Accept-Encoding: identity\r\n\r\n", [])
    assert injection.signer is not None
    assert injection.needles is not None
    assert {FIRST.encode(), SECOND.encode()} <= set(injection.needles.patterns)
    assert b"AKIAEXAMPLE" not in injection.needles.patterns


def test_it_knows_what_it_is_made_of() -> None:
    known = session()
    injection = Injection(route_of(SIGV4), [known], scrub=False)
    assert injection.is_made_of([known])
    assert not injection.is_made_of([session()])


def test_additional_headers_come_before_ours() -> None:
    resolver = {"kind": "integration_connection", "connectionId": "con_two", "secretType": "api_key"}
    route = route_of(
        {"type": "bearer"},
        additionalHeaders={"X-Version": "2"},
        additionalCredentialHeaders=[{"header": "X-Second", "credentialResolver": resolver}],
    )
    credentials = [credential(FIRST), credential(SECOND, "b")]
    injection = Injection(route, credentials, scrub=True)
    assert injection.block == (
        b"X-Version: 2\r\nX-Second: second-canary-7b92f3c1\r\nAuthorization: Bearer first-canary-5d41402a\r\n"
        b"Accept-Encoding: identity\r\n\r\n"
    )
    assert injection.versions == ("1", "b")
    # Each key with its own credential, as objects: who holds a newer one sees that this is outdated.
    assert [key.connection_id for key, _ in injection.made_of] == ["con_one", "con_two"]
    assert [key for key, _ in injection.made_of] == [request.key for request in route.credentials]
    assert all(used is given for (_, used), given in zip(injection.made_of, credentials, strict=True))
    assert injection.needles is not None
    for secret in (FIRST, SECOND):
        assert secret.encode() in injection.needles.patterns


def test_c3_a_scrubbed_route_asks_for_answers_that_can_be_read() -> None:
    assert b"accept-encoding" in injection_of({"type": "bearer"}, scrub=True).removed
    unscrubbed = injection_of({"type": "bearer"})
    assert b"accept-encoding" not in unscrubbed.removed
    assert b"Accept-Encoding" not in unscrubbed.block


def test_c3_a_secret_too_short_to_be_looked_for_is_known_of() -> None:
    bearer = {"type": "bearer"}
    assert Injection(route_of(bearer), [credential("short")], scrub=True).is_blind
    assert not Injection(route_of(bearer), [credential("short")], scrub=False).is_blind, "nothing is looked for"
    assert not injection_of(bearer, scrub=True).is_blind


def test_c1_what_is_removed_is_the_route_s() -> None:
    route = route_of({"type": "header", "header": "X-Key"})
    injection = Injection(route, [credential(FIRST)], scrub=True)
    assert injection.removed - {b"accept-encoding"} == route.removed
    assert b"accept-encoding" not in route.removed


@pytest.mark.parametrize("count", [1, 3])
def test_a_credential_too_few_or_too_many_makes_no_injection(count: int) -> None:
    resolver = {"kind": "integration_connection", "connectionId": "con_two", "secretType": "api_key"}
    route = route_of(
        {"type": "bearer"}, additionalCredentialHeaders=[{"header": "X-B", "credentialResolver": resolver}]
    )
    with pytest.raises(ValueError, match="zip"):
        Injection(route, [credential(FIRST)] * count, scrub=False)


def test_p9_what_is_stripped_from_the_query_is_the_route_s() -> None:
    assert injection_of({"type": "bearer"}).strip_query == frozenset()
    assert injection_of({"type": "query", "parameter": "key"}, stripQuery=["sig"]).strip_query == {"key", "sig"}


def test_placeholders_take_the_first_credential() -> None:
    injection = injection_of({"type": "bearer"}, placeholders=[{"value": "placeholder-1", "in": ["header"]}])
    assert [one.in_lines([b"X-A: placeholder-1"]) for one in injection.replacements] == [[b"X-A: " + FIRST.encode()]]


def test_c14_it_is_never_printed() -> None:
    assert repr(injection_of({"type": "bearer"}, scrub=True)) == "<Injection>"
