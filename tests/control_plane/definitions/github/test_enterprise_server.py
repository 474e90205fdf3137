"""The form of a server's target asks where it is first."""

from control_plane.definitions.contract import FormContext
from control_plane.definitions.github.enterprise_server import server_target_form


def test_the_form_asks_where_the_server_is() -> None:
    fields = server_target_form(FormContext(target=None, connection=None, value={}))
    assert [field.name for field in fields] == ["baseUrl", "appSlug"]
