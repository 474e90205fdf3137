import pytest

from control_plane.definitions.registry import Registry
from control_plane.foundation import Foundation
from control_plane.refusals import Refused
from control_plane.store.models import Connection
from control_plane.target_forms import FormKind, resolve_form
from control_plane.target_sync import sync
from control_plane.targets import Changes, TargetDesk
from tests.support.control_plane import NOW, ORGANIZATION
from tests.support.definitions import registry

GOOD = {"baseUrl": "https://forge.example"}


@pytest.fixture
async def known(base: Foundation) -> Registry:
    definitions = registry()
    await sync(base.database, base.vault, definitions, None, NOW, enable_ready=True)
    await TargetDesk(base.database, base.vault, definitions).change("forge-server", 1, Changes(config=GOOD), NOW)
    rows = [
        Connection(
            id=f"con_{key}",
            organization_id=ORGANIZATION,
            target_key=key,
            display_name=None,
            status="active",
            method="oauth2-authorization-code",
            created_at=1,
            updated_at=1,
        )
        for key in ("forge-server", "linear-default")
    ]
    async with base.database.write() as tx:
        await tx.add_all(rows)
    return definitions


async def test_a_form_knows_its_target(base: Foundation, known: Registry) -> None:
    shown = await resolve_form(base.database, known, "forge-server", FormKind.TARGET, None, for_operator=True)
    assert shown["fields"] == [
        {"name": "baseUrl", "label": "Address", "widget": "text", "help": GOOD["baseUrl"], "choices": ["a"]},
        {"name": "realm", "label": "Realm", "widget": "text"},
    ]
    secret = await resolve_form(base.database, known, "forge-server", FormKind.SECRET, None, for_operator=True)
    assert isinstance(secret["fields"], list)
    assert {each["widget"] for each in secret["fields"]} == {"password"}
    assert "clientSecret" in repr(secret["schema"])


@pytest.mark.parametrize(("connection_id", "hidden"), [(None, False), ("con_forge-server", True)])
async def test_a_form_knows_the_connection(
    base: Foundation, known: Registry, connection_id: str | None, hidden: bool
) -> None:
    asked = resolve_form(base.database, known, "forge-server", FormKind.BINDING, connection_id, for_operator=True)
    fields = (await asked)["fields"]
    assert isinstance(fields, list)
    assert [each.get("hidden", False) for each in fields] == [hidden]


@pytest.mark.parametrize(
    ("key", "connection_id", "code"),
    [
        ("none", None, "target_not_found"),
        ("forge-server", None, "target_not_found"),  # disabled
        ("linear-default", "con_none", "connection_not_found"),
    ],
)
async def test_what_a_member_has_no_form_of(
    base: Foundation, known: Registry, key: str, connection_id: str | None, code: str
) -> None:
    with pytest.raises(Refused) as caught:
        await resolve_form(base.database, known, key, FormKind.CONNECTION, connection_id, for_operator=False)
    assert caught.value.code.wire == code


async def test_a_connection_to_another_target_is_none(base: Foundation, known: Registry) -> None:
    with pytest.raises(Refused) as caught:
        await resolve_form(
            base.database, known, "forge-server", FormKind.BINDING, "con_linear-default", for_operator=True
        )
    assert caught.value.code.wire == "connection_not_found"
