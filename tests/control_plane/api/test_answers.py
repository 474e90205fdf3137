from control_plane.api.answers import CODES, TOLD
from control_plane.authorizations import OAUTH_CALLBACK, REDIRECT_CALLBACK
from control_plane.callers import CLIENT_FEED, PERMISSIONS
from control_plane.webhooks.endpoints import PATH as WEBHOOKS


def test_every_path_has_its_answer() -> None:
    own = ("/healthz", "/readyz", "/.well-known/jwks.json", OAUTH_CALLBACK, REDIRECT_CALLBACK, CLIENT_FEED)
    public = {("GET", path) for path in own} | {("POST", f"{WEBHOOKS}{{endpoint_key}}")}
    assert set(TOLD) == set(PERMISSIONS) | public


def test_what_is_deleted_is_answered_without_a_body() -> None:
    for (method, path), told in TOLD.items():
        assert (method == "DELETE") == (told.status == 204), path
        assert told.status != 204 or told.model is None


def test_codes_are_told() -> None:
    assert "forbidden" in CODES
    assert sorted(set(CODES)) == CODES
