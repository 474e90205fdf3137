"""The OpenAPI document as a whole; that answers are as it says is what `make api-fuzz` asks."""

import json
import re
from typing import Any

import pytest

from control_plane.api.openapi import path_shape
from tests.support.control_plane import Replica

# What is tested here knows no database: one is enough.
pytestmark = pytest.mark.parametrize("url", ["sqlite"], indirect=True)


WITHOUT_BODY = ("/redeliver", "/{shared_tool_id}/start", "/{shared_tool_id}/stop")


@pytest.fixture
async def document(api: Replica) -> dict[str, Any]:
    found: dict[str, Any] = (await api.client.get("/openapi.json")).json()
    return found


async def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    names = set(re.findall(r'"#/components/schemas/(\w+)"', text))
    assert names
    assert names <= set(document["components"]["schemas"])
    assert "#/$defs" not in text
    assert '"null"' not in text


async def test_every_operation_tells_its_answers_and_its_callers(document: dict[str, Any]) -> None:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            statuses = set(operation["responses"])
            assert statuses >= {"4XX", "5XX"}, (method, path)
            assert {status for status in statuses if status.startswith("2")}, (method, path)
            assert ("security" in operation) == path.startswith(("/v1/", "/api/", "/internal/")), path
            named = {each["name"] for each in operation.get("parameters", ())}
            assert ("Idempotency-Key" in named) == (method == "post" and path.startswith(("/v1/", "/api/")))
            takes_body = method in ("post", "put", "patch") and not path.endswith(WITHOUT_BODY)
            assert ("requestBody" in operation) == takes_body, (method, path)


async def test_paths_of_one_shape_are_one(document: dict[str, Any]) -> None:
    shapes = [path_shape(path) for path in document["paths"]]
    assert len(shapes) == len(set(shapes))
    both = document["paths"]["/v1/integration/connections/{id}/api-key"]
    assert set(both) == {"post", "put"}
    assert [each["name"] for each in both["put"]["parameters"] if each["in"] == "path"] == ["id"]
