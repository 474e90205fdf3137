"""Refusals of the admin listener: each is a problem document, and a defect tells nothing but that it is one."""

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway.admin.refusals import AdminCode, Refused, answer_refusals, refuse_foreigners, refuse_strangers
from gateway.keys import KeyRing
from gateway.revocations import Revocations
from gateway.service_auth import ServiceAuth
from gateway.tokens import TokenVerifier
from sallyport.claims import AUDIENCE_GATEWAY
from sallyport.problem import Code
from tests.support.signed_tokens import NOW, claims, jwk, key_set, mint


async def asked(error: Exception, **headers: str) -> tuple[int, dict[str, object]]:
    async def fail(_: web.Request) -> web.StreamResponse:
        raise error

    app = web.Application(middlewares=[answer_refusals, refuse_foreigners])
    app.router.add_get("/", fail)
    async with TestClient(TestServer(app)) as client:
        answer = await client.get("/", headers=headers)
        document: dict[str, object] = await answer.json(content_type=None)
        assert answer.headers["X-Sallyport-Error"] == document["code"]
        return answer.status, document


@pytest.mark.parametrize("code", [*AdminCode, Code.OVERLOADED, Code.BODY_TOO_LARGE])
async def test_every_code_has_its_status(code: AdminCode | Code) -> None:
    status, document = await asked(Refused(code, "why", issues=[1]))
    assert (status, document["code"], document["title"]) == (code.status, code.wire, code.title)
    assert (document["detail"], document["issues"], document["retryable"]) == ("why", [1], code.retryable)


async def test_a_defect_is_told_by_nothing_that_it_holds() -> None:
    status, document = await asked(RuntimeError("canary"))
    assert (status, document["code"]) == (500, "internal_error")
    assert "canary" not in str(document)


@pytest.mark.parametrize("authorization", [None, "Bearer", "Bearer x.y.z", f"Bearer {mint(claims())}"])
async def test_strangers_are_challenged(authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    async with guarded() as client:
        answer = await client.get("/", headers={"Host": "gateway.test", **headers})
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert (await answer.json(content_type=None))["code"] == "authentication_required"


async def test_a_service_token_is_let_in_by_any_name_and_health_without_one() -> None:
    good = {"Authorization": f"Bearer {mint(claims(aud=AUDIENCE_GATEWAY))}"}
    async with guarded() as client:
        assert (await client.get("/", headers={"Host": "gateway.test", **good})).status == 200
        assert (await client.get("/healthz", headers={"Host": "gateway.test"})).status == 200
        page = {"Host": "gateway.test", "Origin": "https://gateway.test"}
        assert (await client.get("/", headers={**page, **good})).status == 403
        assert (await client.get("/healthz", headers=page)).status == 403


def guarded() -> TestClient[web.Request, web.Application]:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response()

    def verifier_for(audience: str) -> TokenVerifier:
        return TokenVerifier(KeyRing(key_set(jwk())), issuer="sallyport", audience=audience, revocations=Revocations())

    app = web.Application(middlewares=[answer_refusals, refuse_strangers(ServiceAuth(verifier_for, lambda: NOW))])
    app.router.add_get("/", answer)
    app.router.add_get("/healthz", answer)
    return TestClient(TestServer(app))


@pytest.mark.parametrize(("header", "status"), [({"Host": "evil.test"}, 421), ({"Origin": "http://localhost"}, 403)])
async def test_web_pages_are_refused_before_anything_is_done(header: dict[str, str], status: int) -> None:
    assert (await asked(RuntimeError("not reached"), **header))[0] == status
