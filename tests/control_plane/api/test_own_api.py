from fastapi import FastAPI, HTTPException, Request

from control_plane.api.caller import SCOPE_KEY
from control_plane.api.own_api import OwnApi
from control_plane.callers import Caller, Role

CALLER = Caller(id="key_one", roles=frozenset({Role.MEMBER}), organization_id="org_one")


def own_api() -> OwnApi:
    app = FastAPI()

    @app.api_route("/echo/{name}", methods=["GET", "POST"])
    async def echo(name: str, request: Request) -> dict[str, object]:
        body = await request.body()
        known = request.scope[SCOPE_KEY].id, request.scope["sallyport.request_id"]
        return {"name": name, "query": dict(request.query_params), "body": body.decode(), "known": known}

    @app.delete("/echo/{name}", status_code=204)
    async def nothing(name: str) -> None:
        return None

    @app.put("/echo/{name}")
    async def refuse(name: str) -> None:
        raise HTTPException(422, {"a": 1})

    return OwnApi(app)


def outer() -> Request:
    scope = {"type": "http", "asgi": {"version": "3.0"}, "sallyport.request_id": "ctl_1", "cookie": "secret"}
    return Request(scope)


async def test_the_api_is_asked_by_the_caller_and_under_the_page_s_request_id() -> None:
    query = {"value": '{"a": "&="}'}
    answer = await own_api().ask(outer(), CALLER, "POST", "/echo/é", body={"b": [1]}, query=query)
    assert answer.is_good
    assert answer.document == {"name": "é", "query": query, "body": '{"b":[1]}', "known": ["key_one", "ctl_1"]}
    assert (await own_api().ask(outer(), CALLER, "GET", "/echo/a")).document["body"] == ""


async def test_answers_without_a_body_and_refusals() -> None:
    assert await own_api().ask(outer(), CALLER, "DELETE", "/echo/a") == (204, {})
    refused = await own_api().ask(outer(), CALLER, "PUT", "/echo/a")
    assert (refused.is_good, refused.status, list(refused.issues)) == (False, 422, [])
