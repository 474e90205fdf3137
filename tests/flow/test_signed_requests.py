"""Requests that the gateway signs for AWS, byte by byte, by the explicit listener and through a tunnel alike."""

import contextlib
import json
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.aws_signature import Account, Arrived, fault_of
from tests.support.fake_control import fake_control
from tests.support.gateway_plans import SANDBOX, plan
from tests.support.in_process import in_process_gateway, signing_jwk
from tests.support.raw_end import RawEnd, raw_origin
from tests.support.stage import CONNECTION, HOST, OK, SECRET, Stage, one_route, stage
from tests.support.two_ways import WAYS, way_into
from tests.support.until import until

pytestmark = pytest.mark.uvloop

both_ways = pytest.mark.parametrize("way", WAYS)
REGION = "eu-west-1"
TOKEN = "canary-session/0d51+="
ACCOUNT = Account(access_key_id="ASIASTAGE", secret_access_key=SECRET, session_token=TOKEN)
NEWER = Account(access_key_id="ASIANEWER", secret_access_key="canary-newer-secret", session_token="canary-newer-token")
PLACEHOLDER = "AKIA-PLACEHOLDER"
FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n%b"


def session(account: Account, **further: object) -> str:
    """Return the keys of an account as an operator writes them down."""
    written = {
        "kind": "aws_session",
        "accessKeyId": account.access_key_id,
        "secretAccessKey": account.secret_access_key,
        "sessionToken": account.session_token,
    }
    return json.dumps(written | further)


def signing(
    folder: Path, keys: str = "", /, service: str = "s3", **members: object
) -> contextlib.AbstractAsyncContextManager[Stage]:
    """Set the scene with a route that signs."""
    injection = {"type": "aws_sigv4", "region": REGION, "service": service}
    return stage(folder, routes=[one_route(injection, **members)], credentials={CONNECTION: keys or session(ACCOUNT)})


def asked(target: str, *lines: str, method: str = "GET", body: bytes = b"") -> bytes:
    head = [f"{method} http://{HOST}{target} HTTP/1.1", f"Host: {HOST}", *lines, "", ""]
    return "\r\n".join(head).encode("latin-1") + body


def arrived(head: bytes, body: bytes = b"") -> Arrived:
    first, *lines = head.decode("latin-1").rstrip().split("\r\n")
    method, target, _ = first.split(" ")
    fields = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return Arrived(method=method, target=target, fields=fields, body=body)


def fault(request: Arrived, account: Account = ACCOUNT, service: str = "s3") -> str:
    return fault_of(request, account, service, REGION, time.time_ns() / 1e9)


async def sent(scene: Stage, way: str, request: bytes) -> tuple[RawEnd, RawEnd, bytes]:
    """Send a request; return its stream, the link it came on and its head as it came."""
    end = await (await way_into(scene.gateway, way))(request)
    link = await scene.origin.link()
    return end, link, await link.head()


@both_ways
async def test_c1_what_the_sandbox_signed_is_thrown_away(tmp_path: Path, way: str) -> None:
    theirs = (
        f"AUTHORIZATION: AWS4-HMAC-SHA256 Credential={PLACEHOLDER}/x, SignedHeaders=host, Signature=0",
        "authorization: again",
        "X-Amz-Date: 20200101T000000Z",
        "x_amz_date: 20200101T000000Z",
        "x-amz-security-token: theirs",
        "X-Amz-Content-Sha256: UNSIGNED-PAYLOAD",
        "X-Amz-Meta-Kept:  a   b ",
        "x-amz-meta-kept: c",
        "Range: bytes=0-1",
        "Connection: x-amz-gone, authorization",
        "X-Amz-Gone: hop by hop",
    )
    query = (
        f"X-Amz-Algorithm=x&list-type=2&x%2Damz-credential={PLACEHOLDER}%2Fx&X-Amz-Signature=0"
        "&prefix=a%20b+c;X-AMZ-date=1"
    )
    placeholders = [{"value": PLACEHOLDER, "in": ["header"]}]
    async with signing(tmp_path, placeholders=placeholders) as scene:
        end, link, head = await sent(scene, way, asked(f"/bucket/a%2bb%7e?{query}", *theirs))
        request = arrived(head)
        assert fault(request) == ""
        assert request.target == "/bucket/a%2Bb~?list-type=2&prefix=a%20b+c"
        names = [name.lower() for name, _ in request.fields]
        assert sorted(names) == [
            "accept-encoding",
            "authorization",
            "host",
            "range",
            "x-amz-content-sha256",
            "x-amz-date",
            "x-amz-meta-kept",
            "x-amz-meta-kept",
            "x-amz-security-token",
        ]
        assert b"theirs" not in head
        link.send(OK)
        assert (await end.answer()).status == 200


@both_ways
async def test_c5_a_placeholder_elsewhere_never_leaves(tmp_path: Path, way: str) -> None:
    """No one value stands for keys, so there is none to put in its place."""
    async with signing(tmp_path, placeholders=[{"value": PLACEHOLDER, "in": ["header", "query"]}]) as scene:
        for request in (asked("/", f"X-Amz-Meta-A: {PLACEHOLDER}"), asked(f"/?a={PLACEHOLDER}")):
            answer = await (await (await way_into(scene.gateway, way))(request)).answer()
            assert (answer.status, answer.value("X-Sallyport-Error")) == (502, "credential_unavailable")
        assert scene.origin.ends == []


@both_ways
@pytest.mark.parametrize(
    ("lines", "body", "payload"),
    [
        pytest.param(("Content-Length: 9",), b'{"a": 1}\n', b'{"a": 1}\n', id="length"),
        pytest.param(("Transfer-Encoding: chunked",), b"4\r\na=b&\r\n1\r\nc\r\n0\r\n\r\n", b"a=b&c", id="chunked"),
    ],
)
async def test_s3_a_body_without_a_hash_is_kept_and_signed(
    tmp_path: Path, way: str, lines: tuple[str, ...], body: bytes, payload: bytes
) -> None:
    async with signing(tmp_path, service="dynamodb") as scene:
        request = asked("/", "Content-Type: application/x-amz-json-1.0", *lines, method="POST", body=body)
        end, link, head = await sent(scene, way, request)
        assert await link.exactly(len(payload)) == payload
        assert arrived(head).values("content-length") == [str(len(payload))]
        assert fault(arrived(head, payload), service="dynamodb") == ""
        link.send(OK)
        assert (await end.answer("POST")).status == 200


@both_ways
async def test_chunks_that_are_signed_one_by_one_are_refused(tmp_path: Path, way: str) -> None:
    async with signing(tmp_path) as scene:
        lines = ("x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", "Transfer-Encoding: chunked")
        answer = await (await (await way_into(scene.gateway, way))(asked("/k", *lines, method="PUT"))).answer("PUT")
        problem = json.loads(answer.body)
        assert (answer.status, problem["code"]) == (400, "invalid_request")
        assert "chunked signing" in problem["hint"]
        assert scene.origin.ends == []


@both_ways
async def test_c3_what_a_service_shows_of_the_keys_is_blanked(tmp_path: Path, way: str) -> None:
    """SignatureDoesNotMatch shows the canonical request, the session token in it; a skewed clock is told as it is."""
    async with signing(tmp_path) as scene:
        end, link, head = await sent(scene, way, asked("/k"))
        shown = b"<Error><Code>RequestTimeTooSkewed</Code><CanonicalRequest>" + head + SECRET.encode() + b"</Error>"
        link.send(FORBIDDEN % (len(shown), shown))
        answer = await end.answer()
        assert (answer.status, len(answer.body)) == (403, len(shown))
        assert b"<Code>RequestTimeTooSkewed</Code>" in answer.body
        for secret in (TOKEN, SECRET):
            assert secret.encode() not in answer.head + answer.body


@both_ways
async def test_c9_a_401_is_answered_with_a_newer_version_once(tmp_path: Path, way: str) -> None:
    async with signing(tmp_path) as scene:
        end, link, head = await sent(scene, way, asked("/k?X-Amz-Date=1&a=2"))
        assert fault(arrived(head)) == ""
        scene.gateway.set_credential(CONNECTION, session(NEWER))
        link.send(OK.replace(b"200 OK", b"401 Unauthorized"))
        again = await scene.origin.link()
        request = arrived(await again.head())
        assert (fault(request, NEWER), request.target) == ("", "/k?a=2")
        again.send(OK)
        assert (await end.answer()).status == 200


@both_ways
async def test_a_control_plane_gives_the_keys_once(tmp_path: Path, way: str) -> None:
    injection = {"type": "aws_sigv4", "region": REGION, "service": "s3"}
    async with raw_origin() as origin, fake_control() as control:
        control.keys = [signing_jwk()]
        control.plans[SANDBOX] = plan([one_route(injection)])
        keys = json.loads(session(ACCOUNT, version="v1", expiresAt=1_900_000_000))
        control.credentials[CONNECTION] = keys
        settings = {
            "url": control.url,
            "token_file": str(control.token_file(tmp_path)),
            "gateway_id": "gw_1",
            "state_dir": str(tmp_path / "state"),
        }
        async with in_process_gateway(tmp_path, control=settings, connect_to={f"{HOST}:80": origin.port}) as gateway:
            await until(lambda: gateway.metric('sallyport_control_requests_total{operation="keys",result="ok"}') == 1)
            ask = await way_into(gateway, way)
            for target in ("/a", "/b"):
                end = await ask(asked(target, "Connection: close"))
                link = await origin.link()
                assert fault(arrived(await link.head())) == ""
                link.send(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
                assert (await end.answer()).status == 200
            assert control.count("/internal/integration-credentials/resolve") == 1


@both_ways
async def test_c10_keys_that_have_ended_sign_nothing(tmp_path: Path, way: str) -> None:
    async with signing(tmp_path, session(ACCOUNT, expiresAt=1_700_000_000)) as scene:
        answer = await (await (await way_into(scene.gateway, way))(asked("/k"))).answer()
        assert (answer.status, answer.value("X-Sallyport-Error")) == (503, "credential_temporarily_unavailable")
        assert scene.origin.ends == []


@both_ways
async def test_c4_keys_that_would_break_a_head_sign_nothing(tmp_path: Path, way: str) -> None:
    broken: Mapping[str, str] = {"secretAccessKey": "canary\r\nX: 1", "sessionToken": "canary\0", "accessKeyId": "a/b"}
    for name, value in broken.items():
        folder = tmp_path / name
        folder.mkdir()
        async with signing(folder, session(ACCOUNT, **{name: value})) as scene:
            answer = await (await (await way_into(scene.gateway, way))(asked("/k"))).answer()
            assert (answer.status, answer.value("X-Sallyport-Error")) == (502, "credential_unavailable")
            assert scene.origin.ends == []


@both_ways
async def test_every_request_of_a_stream_is_signed_for_itself(tmp_path: Path, way: str) -> None:
    async with signing(tmp_path) as scene:
        end, link, head = await sent(scene, way, asked("/a"))
        link.send(OK)
        assert (await end.answer()).status == 200
        token = [scene.gateway.authorization.decode()] if way == "explicit" else []
        end.send(asked("/b", "X-Amz-Acl: private", *token))
        second = await link.head()
        assert (fault(arrived(head)), fault(arrived(second))) == ("", "")
        assert arrived(second).values("authorization") != arrived(head).values("authorization")
        link.send(OK)
        assert (await end.answer()).status == 200
