"""github.com is a variant of one family."""

from control_plane.definitions.github import enterprise_server
from control_plane.definitions.github.cloud import DEFINITION


def test_the_two_variants_are_one_family_and_share_what_a_binding_is() -> None:
    assert DEFINITION.family_id == enterprise_server.DEFINITION.family_id
    assert DEFINITION.binding_config is enterprise_server.DEFINITION.binding_config
    assert DEFINITION.target_config.model_validate({}).site.web_url == "https://github.com"
