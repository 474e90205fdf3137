"""The OpenAPI document: FastAPI's, made true of an API that reads bodies and writes answers by itself."""

import re
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from control_plane.api.answers import CODES, PAGE, TOLD, Told
from control_plane.api.documents.problems import Problem
from control_plane.api.idempotency import PREFIXES
from control_plane.callers import CLIENT_FEED, PERMISSIONS
from control_plane.definitions.forms import without_null

_COMPONENT: Final = "#/components/schemas/{model}"
_PROBLEMS: Final = {
    "4XX": "Refused; docs/control-plane.md has the codes.",
    "5XX": "Not served now; Retry-After is there where asking again may help.",
}
_SECURITY: Final = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A service token, an API key, a client key."},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_IDEMPOTENCY_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same request by the same key gets the same answer for 24 hours, and is done once.",
    "schema": {"type": "string", "pattern": r"^[\x21-\x7E]{1,255}$"},
}

type Schema = dict[str, Any]


def openapi_document(app: FastAPI) -> Schema:
    """Return the document of an application."""
    document: Schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
    schemas: Schema = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            _rewrite(operation, method.upper(), path, schemas)
    document["paths"] = _by_shape(document["paths"])
    schemas["Problem"] = _hoisted(Problem, schemas, "serialization")
    schemas["Problem"]["properties"]["code"] = {"type": "string", "enum": CODES}
    document["components"] = {"schemas": dict(sorted(schemas.items())), "securitySchemes": _SECURITY}
    result: Schema = without_null(document)
    return result


def _rewrite(operation: Schema, method: str, path: str, schemas: Schema) -> None:
    body = operation.get("requestBody")
    if body is not None:
        content = body["content"]["application/json"]
        content["schema"] = _lifted(content["schema"], schemas)
    told = TOLD.get((method, path))
    refusal: Schema = {"application/problem+json": {"schema": {"$ref": _COMPONENT.format(model="Problem")}}}
    if told is not None and told.media_type == PAGE:
        refusal[PAGE] = {"schema": {"type": "string"}}
    operation["responses"] = ({} if told is None else _told(told, schemas)) | {
        status: {"description": words, "content": refusal} for status, words in _PROBLEMS.items()
    }
    if (method, path) in PERMISSIONS:
        operation["security"] = [{name: []} for name in _SECURITY]
        operation["description"] += f" For: {', '.join(sorted(PERMISSIONS[method, path]))}."
    elif path == CLIENT_FEED:
        operation["security"] = [{name: []} for name in _SECURITY]
        operation["description"] += " For: the holder of a client key."
    if method == "POST" and path.startswith(PREFIXES):
        operation.setdefault("parameters", []).append(_IDEMPOTENCY_KEY)


def _by_shape(paths: Schema) -> Schema:
    """Join paths that differ in the names of parameters alone, which to OpenAPI are one; the parameter is `id` then."""
    shapes: dict[str, list[str]] = {}
    for path in paths:
        shapes.setdefault(path_shape(path), []).append(path)
    joined: Schema = {}
    for shape, same in shapes.items():
        name = same[0] if len(same) == 1 else shape.replace("{}", "{id}")
        item = joined[name] = {}
        for path in same:
            for method, operation in paths[path].items():
                for parameter in operation.get("parameters", ()) if len(same) > 1 else ():
                    parameter["name"] = "id" if parameter["in"] == "path" else parameter["name"]
                item[method] = operation
    return joined


def path_shape(path: str) -> str:
    """Return a path without the names of its parameters."""
    return re.sub(r"{\w+}", "{}", path)


def _told(told: Told, schemas: Schema) -> Schema:
    answer: Schema = {"description": "Done."}
    if told.model is not None:
        answer["content"] = {told.media_type: {"schema": _hoisted(told.model, schemas, "serialization")}}
    elif told.status != 204:
        answer["content"] = {told.media_type: {"schema": {"type": "string"}}}
    nothing = {"description": "It is as the caller has it."}
    return {str(status): nothing if status == 304 else answer for status in (told.status, *told.also)}


def _hoisted(model: Any, schemas: Schema, mode: Any) -> Schema:  # noqa: ANN401  whatever pydantic describes
    return _lifted(TypeAdapter(model).json_schema(ref_template=_COMPONENT, mode=mode), schemas)


def _lifted(schema: Schema, schemas: Schema) -> Schema:
    """Take the definitions of a schema into the document's own."""
    for name, definition in schema.pop("$defs", {}).items():
        schemas[name] = definition
    return schema
