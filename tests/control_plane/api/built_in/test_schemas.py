from control_plane.api.built_in.schemas import Schema, standalone

COMPONENTS: dict[str, Schema] = {
    "Leaf": {"type": "string", "description": "a $ref in words"},
    "Node": {
        "type": "object",
        "properties": {"next": {"$ref": "#/components/schemas/Node"}, "of": {"$ref": "#/components/schemas/Leaf"}},
    },
    "Alias": {"$ref": "#/components/schemas/Node"},
    "Other": {"type": "object"},
}


def test_what_a_schema_refers_to_comes_along_and_nothing_else() -> None:
    schema = {"type": "array", "items": [{"$ref": "#/components/schemas/Leaf", "title": "x"}]}
    assert standalone(schema, COMPONENTS) == {
        "type": "array",
        "items": [{"$ref": "#/$defs/Leaf", "title": "x"}],
        "$defs": {"Leaf": COMPONENTS["Leaf"]},
    }
    assert standalone({"type": "object"}, COMPONENTS) == {"type": "object"}


def test_a_reference_alone_becomes_what_it_refers_to_also_where_that_refers_to_itself() -> None:
    found = standalone({"$ref": "#/components/schemas/Alias"}, COMPONENTS)
    assert found["type"] == "object"
    assert found["properties"]["next"] == {"$ref": "#/$defs/Node"}
    assert set(found["$defs"]) == {"Node", "Leaf"}
    assert COMPONENTS["Alias"] == {"$ref": "#/components/schemas/Node"}
