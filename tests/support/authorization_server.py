"""Providers as they are on the wire, over real TLS: an OAuth 2.0 authorization server, GitHub's App tokens, AWS's STS.

It checks what it is sent as the real ones do, from its own reading of their documents, and can be told to be slow,
wrong, huge or away. It runs on a thread of its own (tests.support.background), so every attribute is only read there.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlencode

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from demo.certificates import OriginFiles, write_origin_files
from tests.support.background import in_background

CLIENT_ID = "client-of-the-operator"
CLIENT_SECRET = "secret/of the+operator"
APP_ID = "12345"
INSTALLATION = "777"
ACCESS_KEY_ID = "AKIDEXAMPLE"
SECRET_ACCESS_KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
ROLE = "arn:aws:iam::123456789012:role/reader"
HELD_SECONDS = 20.0

APP_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
APP_KEY_PEM = APP_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

type Form = dict[str, str]
type Wrong = Callable[[], web.Response]


class AuthorizationServer:
    """One provider on loopback. `now` is the time it lives in."""

    def __init__(self, files: OriginFiles) -> None:
        self.port = 0
        self.ca_file = files.ca_file
        self.lifetime: int | None = 3600
        self.rotates = True
        self.denies = False
        self.now: Callable[[], float] = time.time  # noqa: TID251  the provider's own clock
        self.asked: Counter[str] = Counter()  # by grant type, or path
        self.seen: list[dict[str, Any]] = []
        self.fields: list[dict[str, str]] = []  # header fields of token requests
        self.issued: list[str] = []
        self.owner = "acme"
        self.workspace = "ws_1"
        self._wrong: list[Wrong] = []
        self._codes: dict[str, Form] = {}
        self._refresh: set[str] = set()
        self._tls = files.server_context()
        self._gate = threading.Event()
        self._gate.set()
        self._arrived = threading.Semaphore(0)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"https://127.0.0.1:{self.port}"

    # What a test tells it ---------------------------------------------------------------------------------------------

    def misbehave(self, *answers: Wrong) -> None:
        """Answer the next questions wrongly, one each."""
        self._wrong.extend(answers)

    def forget_refresh_tokens(self) -> None:
        """Withdraw what was granted."""
        self._refresh.clear()

    def hold(self) -> None:
        """Keep every question waiting."""
        self._gate.clear()

    def release(self) -> None:
        """Answer what waits, and what comes."""
        self._gate.set()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep every question waiting within the block."""
        self.hold()
        try:
            yield
        finally:
            self.release()

    async def arrival(self) -> None:
        """Wait until a question has arrived that nobody waited for yet."""
        assert await asyncio.to_thread(self._arrived.acquire, timeout=HELD_SECONDS)

    # What it does -----------------------------------------------------------------------------------------------------

    async def run(self, started: "asyncio.Event") -> None:
        """Serve until cancelled."""
        app = web.Application()
        app.router.add_get("/authorize", self._authorize)
        app.router.add_post("/token", self._answer(self._token))
        app.router.add_post("/app/installations/{id}/access_tokens", self._answer(self._installation))
        app.router.add_get("/user/installations/{id}", self._answer(self._seen_by_member))
        app.router.add_post("/", self._answer(self._sts))
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._tls)
            await site.start()
            self.port = runner.addresses[0][1]
            started.set()
            await asyncio.Event().wait()
        finally:
            self._gate.set()
            await runner.cleanup()

    def _answer(self, handler: Callable[[web.Request, bytes], web.Response]) -> Any:  # noqa: ANN401  aiohttp's handler
        async def answer(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            self._arrived.release()
            await asyncio.to_thread(self._gate.wait, HELD_SECONDS)
            return self._wrong.pop(0)() if self._wrong else handler(request, body)

        return answer

    async def _authorize(self, request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        self.seen.append(query)
        assert query["response_type"] == "code"
        assert query["client_id"] == CLIENT_ID
        assert query["code_challenge_method"] == "S256"
        if self.denies:
            raise web.HTTPFound(
                f"{query['redirect_uri']}?{urlencode({'error': 'access_denied', 'state': query['state']})}"
            )
        code = secrets.token_urlsafe(8)
        self._codes[code] = query
        raise web.HTTPFound(f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}")

    def _token(self, request: web.Request, body: bytes) -> web.Response:
        form = {name: values[0] for name, values in parse_qs(body.decode(), strict_parsing=True).items()}
        self.seen.append(form)
        self.fields.append(dict(request.headers))
        self.asked[form["grant_type"]] += 1
        if not _is_client(request, form):
            return refusal("invalid_client", 401)
        match form["grant_type"]:
            case "authorization_code":
                asked = self._codes.pop(form["code"], None)
                if asked == {}:
                    return self._grant(refresh=None)
                digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
                challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
                if (
                    asked is None
                    or asked["code_challenge"] != challenge
                    or asked["redirect_uri"] != form["redirect_uri"]
                ):
                    return refusal("invalid_grant")
                return self._grant(refresh=secrets.token_urlsafe(8))
            case "refresh_token":
                if form["refresh_token"] not in self._refresh:
                    return refusal("invalid_grant")
                if not self.rotates:
                    return self._grant(refresh=None)
                self._refresh.discard(form["refresh_token"])
                return self._grant(refresh=secrets.token_urlsafe(8))
            case "client_credentials":
                return self._grant(refresh=None)
        return refusal("unsupported_grant_type")

    def _grant(self, refresh: str | None) -> web.Response:
        token = f"at-{secrets.token_urlsafe(12)}"
        self.issued.append(token)
        answer: dict[str, object] = {"access_token": token, "token_type": "bearer", "workspace": self.workspace}
        if self.lifetime is not None:
            answer["expires_in"] = self.lifetime
        if refresh is not None:
            self._refresh.add(refresh)
            answer["refresh_token"] = refresh
        return web.json_response(answer)

    def _installation(self, request: web.Request, body: bytes) -> web.Response:
        self.asked["installation"] += 1
        token = request.headers["Authorization"].removeprefix("Bearer ")
        claims = jwt.decode(token, APP_KEY.public_key(), ["RS256"], options={"verify_exp": False, "verify_iat": False})
        now = self.now()
        if claims["iss"] != APP_ID or not claims["iat"] <= now < claims["exp"] <= now + 600:
            return web.json_response({"message": "bad claims"}, status=401)
        if request.match_info["id"] != INSTALLATION:
            return web.json_response({"message": "Not Found"}, status=404)
        asked = json.loads(body)
        self.seen.append(asked)
        if "missing" in asked["repositories"]:
            return web.json_response({"message": "not accessible"}, status=422)
        made = f"ghs_{secrets.token_urlsafe(12)}"
        self.issued.append(made)
        until = datetime.fromtimestamp(now + 3600, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        names = [{"full_name": f"{self.owner}/{name}"} for name in asked["repositories"]]
        return web.json_response({"token": made, "expires_at": until, "repositories": names}, status=201)

    def _seen_by_member(self, request: web.Request, body: bytes) -> web.Response:
        self.asked["member"] += 1
        token = request.headers["Authorization"].removeprefix("Bearer ")
        is_theirs = token in self.issued and request.match_info["id"] == INSTALLATION
        return web.json_response({"repositories": []} if is_theirs else {}, status=200 if is_theirs else 404)

    def offer_code(self) -> str:
        """Give a code that nobody asked for, as an installation's way back has it."""
        code = secrets.token_urlsafe(8)
        self._codes[code] = {}
        return code

    def _sts(self, request: web.Request, body: bytes) -> web.Response:
        self.asked["sts"] += 1
        form = {name: values[0] for name, values in parse_qs(body.decode(), strict_parsing=True).items()}
        self.seen.append(form)
        if not _is_signed(request, body):
            return web.Response(status=403, text=_sts_error("SignatureDoesNotMatch"))
        if form["RoleArn"] != ROLE:
            return web.Response(status=403, text=_sts_error("AccessDenied"))
        token = f"session-{secrets.token_urlsafe(8)}"
        self.issued.append(token)
        until = datetime.fromtimestamp(self.now() + int(form["DurationSeconds"]), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return web.Response(
            text=f"""<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
            <Credentials><AccessKeyId>ASIA{form["RoleSessionName"]}</AccessKeyId><SecretAccessKey>made</SecretAccessKey>
            <SessionToken>{token}</SessionToken><Expiration>{until}</Expiration></Credentials>
            </AssumeRoleResult></AssumeRoleResponse>""",
            content_type="text/xml",
        )


def refusal(error: str, status: int = 400) -> web.Response:
    """Refuse as RFC 6749 section 5.2 has it, with a text that must not be shown."""
    return web.json_response({"error": error, "error_description": "canary-of-the-provider"}, status=status)


def plain(status: int, body: bytes = b"canary-of-the-provider", **headers: str) -> Wrong:
    """Answer anything."""
    return lambda: web.Response(status=status, body=body, headers={n.replace("_", "-"): v for n, v in headers.items()})


GARBAGE = plain(200, b'{"access_token": "canary-of-the-provider"')
HUGE = plain(200, b"x" * 1_000_000)
ELSEWHERE = plain(302, b"", Location="https://127.0.0.1:1/")
WRONG_TYPES = plain(200, b'{"access_token": ["canary-of-the-provider"]}')


def _is_client(request: web.Request, form: Form) -> bool:
    header = request.headers.get("Authorization")
    if header is None:
        return (form.get("client_id"), form.get("client_secret")) == (CLIENT_ID, CLIENT_SECRET)
    name, _, password = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
    return (unquote_plus(name), unquote_plus(password)) == (CLIENT_ID, CLIENT_SECRET)


def _is_signed(request: web.Request, body: bytes) -> bool:
    """Verify Signature Version 4 by the fields that came."""
    fields = dict(part.split("=", 1) for part in request.headers["Authorization"].partition(" ")[2].split(", "))
    key_id, date, region, service, _ = fields["Credential"].split("/")
    names = fields["SignedHeaders"].split(";")
    if key_id != ACCESS_KEY_ID or "host" not in names or "x-amz-date" not in names:
        return False
    lines = [f"{name}:{request.headers[name].strip()}" for name in names]
    canonical = "\n".join(["POST", request.path, "", *lines, "", ";".join(names), hashlib.sha256(body).hexdigest()])
    scope = f"{date}/{region}/{service}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{request.headers['X-Amz-Date']}\n{scope}\n{digest}"
    key = f"AWS4{SECRET_ACCESS_KEY}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.compare_digest(hmac.new(key, text.encode(), hashlib.sha256).hexdigest(), fields["Signature"])


def _sts_error(code: str) -> str:
    return (
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error>'
        f"<Code>{code}</Code><Message>canary-of-the-provider</Message></Error></ErrorResponse>"
    )


@contextlib.asynccontextmanager
async def _serving(files: OriginFiles) -> AsyncIterator[AuthorizationServer]:
    server = AuthorizationServer(files)
    started = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(server.run(started), name="authorization server")
        await started.wait()
        yield server
        serving.cancel()


@contextlib.contextmanager
def authorization_server(folder: Path) -> Iterator[AuthorizationServer]:
    """Run one on a thread of its own, with certificates in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with in_background(_serving(write_origin_files(folder, ["127.0.0.1"]))) as server:
        yield server
