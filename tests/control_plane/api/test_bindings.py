"""Bindings over HTTP, with the definitions that come with Sallyport."""

import httpx
import pytest

from tests.support.bound_versions import LINEAR_CONNECTION, linear_version
from tests.support.control_plane import Replica

pytestmark = pytest.mark.parametrize("url", ["sqlite"], indirect=True)  # the logic is tested on both


@pytest.fixture
async def path(api: Replica) -> str:
    """The bindings of version 1 of a profile; its organization has a connection to Linear."""
    return f"{await linear_version(api)}/integration-bindings"


def binding(**fields: object) -> dict[str, object]:
    return {"connectionId": LINEAR_CONNECTION, "kind": "connector", "config": {}, **fields}


async def put(api: Replica, path: str, body: object, **headers: str) -> httpx.Response:
    return await api.client.put(path, json=body, headers=headers)


async def test_bindings_are_written_and_read_with_their_revision(api: Replica, path: str) -> None:
    empty = await api.client.get(path)
    assert (empty.json()["revision"], empty.json()["bindings"], empty.headers["etag"]) == (0, [], '"0"')
    written = await put(api, path, {"bindings": [binding(bindingId="bnd_a", config={"mcp": False})]})
    assert (written.status_code, written.headers["etag"]) == (200, '"1"')
    read = await api.client.get(path)
    assert read.json() == written.json()
    [shown] = read.json()["bindings"]
    assert {name: shown[name] for name in ("bindingId", "connectionId", "kind", "config")} == binding(
        bindingId="bnd_a", config={"mcp": False}
    )


async def test_a_crossing_edit_is_409_by_either_way_of_naming_the_revision(api: Replica, path: str) -> None:
    body = {"bindings": [binding()]}
    assert (await put(api, path, body, **{"If-Match": '"0"'})).status_code == 200
    assert (await put(api, path, body | {"revision": 1}, **{"If-Match": '"1"'})).json()["revision"] == 2
    for answer in (
        await put(api, path, body, **{"If-Match": '"0"'}),
        await put(api, path, body | {"revision": 0}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "revision_conflict")
    assert (await put(api, path, body, **{"If-Match": "*"})).status_code == 200
    for wrong in ("2", 'W/"2"', '"x"', '"1", "2"'):
        assert (await put(api, path, body, **{"If-Match": wrong})).status_code == 400
    assert (await put(api, path, body | {"revision": 3}, **{"If-Match": '"2"'})).status_code == 400


async def test_issues_come_at_their_pointers(api: Replica, path: str) -> None:
    await put(api, path, {"bindings": [binding()]})
    answer = await put(api, path, {"bindings": [binding(kind="git"), binding(config={"mcp": "yes", "x": 1})]})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_bindings")
    assert [(each["code"], each["pointer"]) for each in answer.json()["issues"]] == [
        ("compile.kind_mismatch", "/bindings/0/kind"),
        ("compile.invalid_binding_config", "/bindings/1/config/mcp"),
        ("compile.invalid_binding_config", "/bindings/1/config/x"),
    ]
    assert (await api.client.get(path)).json()["revision"] == 1


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, ["/bindings"]),
        ({"bindings": [{}]}, ["/bindings/0/config", "/bindings/0/connectionId", "/bindings/0/kind"]),
        ({"bindings": [binding(bindingId="x", kind="other", config=[])]}, None),
        ({"bindings": [binding(bindingId="bnd_" + "x" * 61)]}, ["/bindings/0/bindingId"]),
        ({"bindings": [binding(config={"a": 1.5})]}, ["/bindings/0/config/a"]),
        ({"bindings": [binding(config={"a": None})]}, ["/bindings/0/config/a"]),
        ({"bindings": [binding()] * 201}, ["/bindings"]),
        ({"bindings": [], "revision": -1, "more": 1}, ["/more", "/revision"]),
    ],
)
async def test_faulty_bodies(api: Replica, path: str, body: object, pointers: list[str] | None) -> None:
    answer = await put(api, path, body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    found = sorted(issue["pointer"] for issue in answer.json()["issues"])
    assert found == (pointers or ["/bindings/0/bindingId", "/bindings/0/config", "/bindings/0/kind"])


async def test_what_is_not_there(api: Replica, path: str) -> None:
    other = path.replace("/versions/1/", "/versions/2/")
    assert await api.refused("GET", other) == "404 profile_not_found"
    assert await api.refused("PUT", other, {"bindings": []}) == "404 profile_not_found"
    assert await api.refused("PUT", path, content=b"x" * (512 * 1024 + 1)) == "413 body_too_large"
