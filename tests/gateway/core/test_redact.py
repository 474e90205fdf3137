"""No secret is in what is recorded: not the injected one in any form, nor those that programs carry themselves."""

import json
from collections.abc import Mapping

import pytest

from gateway.core.aws_keys import AwsKeys
from gateway.core.credential_cache import Credential
from gateway.core.inject.prepare import Injection
from gateway.core.redact import MAX_MASKS, RawBody, RawExchange, Redactor, SentHead
from gateway.core.route_table import InjectRoute, RouteTable
from gateway.core.scrub import Needles
from gateway.core.upstream_head import upstream_head
from sallyport.destination import Destination
from sallyport.secret import Secret
from sallyport.wire.http1.codec import parse_request
from tests.support.plan_documents import plan_of, route_document

API = Destination("https", "api.example.com", 443)
SECRET = b"canary/+5d41402a bc4b"
NO_BODY = RawBody(b"", 0, True)
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"
KINDS: dict[str, Mapping[str, object]] = {
    "bearer": {"type": "bearer"},
    "basic": {"type": "basic", "username": "user"},
    "header": {"type": "header", "header": "X-Key", "prefix": "key "},
    "query": {"type": "query", "parameter": "key"},
}


SIGV4 = {"type": "aws_sigv4", "region": "eu-1", "service": "s3"}


class Scene:
    """One route, its injection, and what an exchange of it leaves behind."""

    def __init__(
        self, auth: Mapping[str, object] = KINDS["bearer"], *, secret: bytes = SECRET, **fields: object
    ) -> None:
        scrub = bool(fields.pop("scrub", True))
        self.table = RouteTable(plan_of([route_document("r", authInjection=auth, **fields)]))
        self.route: InjectRoute = self.table.routes["r"]
        count = len(self.route.credentials)
        self.injection = Injection(self.route, [Credential(Secret(secret), None, "1")] * count, scrub=scrub)

    def exchange(
        self,
        *lines: bytes,
        target: bytes = b"/v1",
        answer: bytes = OK,
        request_body: RawBody = NO_BODY,
        answer_body: RawBody = NO_BODY,
    ) -> RawExchange:
        received = b"\r\n".join((b"GET " + target + b" HTTP/1.1", b"Host: api.example.com", *lines))
        path, question, query = target.partition(b"?")
        upstream = self.route.upstream_for(API)
        head = parse_request(received)
        sent = SentHead(self.table, self.injection, head, upstream, path, query if question else None, None)
        return RawExchange(received, self.route, sent, answer, request_body, answer_body)

    def document(self, raw: RawExchange, max_body_bytes: int = 1000) -> dict[str, object]:
        return Redactor().document(raw, max_body_bytes)


def fields_of(head: object) -> list[tuple[str, str]]:
    assert isinstance(head, dict)
    return [tuple(pair) for pair in head["fields"]]


def holds(document: object) -> bool:
    shown = json.dumps(document).encode()
    return any(form in shown for form in Needles.of(Secret(SECRET)).patterns)


@pytest.mark.parametrize("auth", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("scrub", [True, False])
def test_the_head_that_was_sent_is_the_same_but_for_its_credential(auth: Mapping[str, object], scrub: bool) -> None:
    scene = Scene(auth, scrub=scrub)
    raw = scene.exchange(b"Accept: */*", b"Authorization: mine", target=b"/v1?a=b&key=mine")
    document = scene.document(raw)
    assert not holds(document)
    assert raw.sent is not None
    really = upstream_head(*raw.sent)
    assert holds(really.decode("latin-1")), "the real head carries it"
    lines = [line.split(": ")[0] for line in really.decode("latin-1").split("\r\n")[1:-2]]
    assert [name for name, _ in fields_of(document["sent"])] == lines
    assert "REDACTED" in json.dumps(document["sent"]) or "dXNlcjpSRURBQ1RFRA==" in json.dumps(document["sent"])


def test_placeholders_are_replaced_by_the_marker() -> None:
    scene = Scene(placeholders=[{"value": "sp-placeholder", "in": ["header", "path", "query"]}])
    raw = scene.exchange(b"X-Token: sp-placeholder", target=b"/botsp-placeholder/x?k=sp-placeholder")
    document = scene.document(raw)
    assert not holds(document)
    assert document["sent"] == {
        "scheme": "https",
        "target": "/botREDACTED/x?k=REDACTED",
        "fields": [
            ("Host", "api.example.com"),
            ("X-Token", "REDACTED"),
            ("Authorization", "Bearer REDACTED"),
            ("Accept-Encoding", "identity"),
        ],
    }
    assert document["received"] == {
        "target": "/botsp-placeholder/x?k=sp-placeholder",
        "fields": [("Host", "api.example.com"), ("X-Token", "sp-placeholder")],
    }


def test_what_the_sandbox_carried_itself_is_masked() -> None:
    scene = Scene(KINDS["query"], keepHeaders=["Cookie"], stripQuery=["absent", "old"])
    raw = scene.exchange(
        b"Authorization: mine",
        b"x_api_key: mine",
        b"Cookie: mine",
        b"X-Other: shown",
        target=b"/v1?key=mine&a=b&old=mine",
        answer=OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: mine\r\n\r\n"),
    )
    document = scene.document(raw)
    assert "mine" not in json.dumps(document)
    assert document["received"] == {
        "target": "/v1?a=b&key=REDACTED&old=REDACTED",
        "fields": [
            ("Host", "api.example.com"),
            ("Authorization", "REDACTED"),
            ("x_api_key", "REDACTED"),
            ("Cookie", "REDACTED"),
            ("X-Other", "shown"),
        ],
    }
    assert ("Cookie", "REDACTED") in fields_of(document["sent"])
    assert document["answer"] == {
        "status": 200,
        "reason": "OK",
        "fields": [("Content-Type", "text/plain"), ("Set-Cookie", "REDACTED")],
    }


def test_of_a_request_that_is_signed_neither_signature_is_recorded() -> None:
    scene = Scene()
    scene.table = RouteTable(plan_of([route_document("r", authInjection=SIGV4)]))
    scene.route = scene.table.routes["r"]
    keys = AwsKeys("AKIAONE", Secret(SECRET), Secret(b"canary-session-token"))
    scene.injection = Injection(scene.route, [Credential(keys, None, "1")], scrub=False)
    echo = OK.replace(b"\r\n\r\n", b"\r\nX-Echo: canary-session-token\r\n\r\n")
    raw = scene.exchange(b"X-Amz-Security-Token: mine", target=b"/k?a=b&x-amz-signature=mine", answer=echo)
    assert raw.sent is not None
    document = scene.document(raw._replace(sent=raw.sent._replace(query=b"a=b")))
    assert not holds(document)
    for word in ("mine", "canary-session-token"):
        assert word not in json.dumps(document)
    assert document["received"] == {
        "target": "/k?a=b&x-amz-signature=REDACTED",
        "fields": [("Host", "api.example.com"), ("X-Amz-Security-Token", "REDACTED")],
    }
    assert document["sent"] == {"scheme": "https", "target": "/k?a=b", "fields": [("Host", "api.example.com")]}


def test_what_was_for_the_gateway_alone_is_left_out() -> None:
    received = b"GET / HTTP/1.1\r\nHost: a\r\nProxy-Authorization: Bearer t\r\nProxy-Foo: 1\r\nSallyport-Stream: plain"
    document = Redactor().document(RawExchange(received, None, None, b"", NO_BODY, NO_BODY), 10)
    assert document == {"received": {"target": "/", "fields": [("Host", "a")]}}


def test_an_echo_is_found_in_every_part() -> None:
    scene = Scene(scrub=False)
    echo = b"HTTP/1.1 200 " + SECRET + b"\r\nX-Echo: " + SECRET.hex().encode() + b"\r\n\r\n"
    body = RawBody(b'{"you":"sent ' + SECRET + b'"}', 14 + len(SECRET) + 1, True)
    document = scene.document(scene.exchange(answer=echo, request_body=body, answer_body=body))
    assert not holds(document)
    assert "you" in json.dumps(document)


def test_a_cut_in_the_middle_of_a_secret_leaves_none_of_it() -> None:
    scene = Scene()
    whole = b"0123456789" + SECRET + b"9876543210"
    for limit in range(len(whole) + 1):
        body = RawBody(whole, len(whole), True)
        document = scene.document(scene.exchange(answer_body=body), limit)
        answer = document["answerBody"]
        assert isinstance(answer, dict)
        text = answer["text"]
        assert not any(SECRET[:size].decode() in text for size in range(4, len(SECRET))), limit
        assert answer.get("truncated", False) == (limit < len(whole))
    for received in range(len(whole)):
        body = RawBody(whole[:received], received, False)  # the link was cut there
        document = scene.document(scene.exchange(answer_body=body))
        assert "canary" not in json.dumps(document)


@pytest.mark.parametrize("coding", [b"gzip", b"BR", b"identity, gzip"])
def test_a_body_that_cannot_be_searched_is_not_recorded(coding: bytes) -> None:
    scene = Scene()
    answer = OK.replace(b"\r\n\r\n", b"\r\nContent-Encoding: " + coding + b"\r\n\r\n")
    document = scene.document(scene.exchange(answer=answer, answer_body=RawBody(b"coded", 5, True)))
    shown = document["answerBody"]
    assert isinstance(shown, dict)
    assert shown.keys() == {"sizeBytes", "omitted"}


def test_beside_a_secret_that_is_too_short_only_the_status_is_recorded() -> None:
    scene = Scene(secret=b"short")
    body = RawBody(b"short", 5, True)
    document = scene.document(scene.exchange(answer=OK[:-2] + b"X: short\r\n\r\n", request_body=body, answer_body=body))
    assert b"short" not in json.dumps(document["answer"]).encode()
    assert document["answer"] == {"status": 200, "reason": "", "fields": []}
    assert "text" not in json.dumps(document)


def test_a_forwarded_exchange_is_recorded_as_it_was() -> None:
    table = RouteTable(plan_of([]))
    received = b"POST /x HTTP/1.1\r\nHost: api.example.com\r\nAuthorization: mine\r\nContent-Length: 2"
    sent = SentHead(table, None, parse_request(received), table.forward_upstream(API), b"/x", None, None)
    raw = RawExchange(received, None, sent, OK, RawBody(b"\xff\x00", 2, True), RawBody(b"ok", 2, True))
    document = Redactor().document(raw, 10)
    assert fields_of(document["sent"])[1] == ("Authorization", "REDACTED")
    assert document["requestBody"] == {"sizeBytes": 2, "base64": "/wA="}
    assert document["answerBody"] == {"sizeBytes": 2, "text": "ok"}


def test_masks_are_made_once_and_not_kept_without_end() -> None:
    redactor = Redactor()
    scene = Scene()
    for _ in range(3):
        redactor.document(scene.exchange(), 0)
    assert repr(redactor) == "<Redactor: 1 injections>"
    for _ in range(MAX_MASKS):
        redactor.document(Scene().exchange(), 0)
    assert repr(redactor) == "<Redactor: 1 injections>"
    assert "canary" not in repr(scene.exchange())
