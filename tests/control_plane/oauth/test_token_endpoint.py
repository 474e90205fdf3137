"""Token endpoints: the questions as RFC 6749 has them, the answers told apart."""

from typing import Literal

import orjson
import pytest

from control_plane.definitions.contract import (
    AuthorizationRequest,
    Document,
    Grant,
    GrantRefused,
    TokenCall,
    standard_grant,
)
from control_plane.oauth import token_endpoint
from control_plane.oauth.provider_error import Fault, ProviderError
from control_plane.oauth.provider_session import Answer, ProviderSession
from control_plane.oauth.token_endpoint import Client, ask_token_endpoint, read_tokens
from sallyport.secret import Secret
from tests.support.authorization_server import CLIENT_ID, CLIENT_SECRET, AuthorizationServer

CLIENT = Client(Secret(CLIENT_ID.encode()), Secret(CLIENT_SECRET.encode()))


def test_where_the_browser_goes() -> None:
    request = AuthorizationRequest(
        url="https://p.test/a?v=2", scopes=("a", "b c"), parameters={"prompt": "x&y", "state": "theirs"}
    )
    verifier = Secret(b"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
    url = token_endpoint.authorization_url(
        request, Secret(b"id"), state="s", redirect_uri="https://s.test/cb", verifier=verifier
    )
    assert url == (
        "https://p.test/a?v=2&prompt=x%26y&state=s&scope=a%20b%20c&response_type=code&client_id=id"
        "&redirect_uri=https%3A%2F%2Fs.test%2Fcb&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        "&code_challenge_method=S256"
    )


@pytest.mark.parametrize("way", ["basic", "post"])
async def test_the_client_proves_itself(
    asking: ProviderSession, shared_provider: AuthorizationServer, way: Literal["basic", "post"]
) -> None:
    call = TokenCall(
        url=shared_provider.url + "/token",
        client_authentication=way,
        parameters={"audience": "a b"},
        headers={"Provider-Version": "2022-06-28", "Accept": "text/html"},
    )
    members = token_endpoint.client_credentials(("one", "two"))
    tokens = await ask_token_endpoint(asking, call, CLIENT, members, standard_grant)
    assert tokens.access == Secret(shared_provider.issued[-1].encode())
    assert (tokens.refresh, tokens.expires_in) == (None, 3600)
    sent = shared_provider.seen[-1]
    assert (sent["scope"], sent["audience"]) == ("one two", "a b")
    assert ("client_secret" in sent) == (way == "post")
    fields = shared_provider.fields[-1]
    assert (fields["Provider-Version"], fields["Accept"]) == ("2022-06-28", "application/json")
    wrong = Client(CLIENT.id, Secret(b"wrong"))
    with pytest.raises(ProviderError, match="invalid_client") as caught:
        await ask_token_endpoint(asking, call, wrong, members, standard_grant)
    assert caught.value.fault is Fault.PERMANENT


def answer(document: object, status: int = 200) -> Answer:
    return Answer(status, {}, orjson.dumps(document))


@pytest.mark.parametrize(
    ("given", "fault", "reason"),
    [
        (answer({"error": "invalid_grant", "error_description": "canary"}, 400), Fault.PERMANENT, "invalid_grant"),
        (answer({"error": "invalid_client"}, 401), Fault.PERMANENT, "invalid_client"),
        (answer({"error": "access_denied"}, 403), Fault.PERMANENT, "access_denied"),
        (answer({"error": "canary-of-theirs"}, 400), Fault.PERMANENT, "it gave another reason"),
        (answer({"error": ["canary"]}, 400), Fault.PERMANENT, "it gave another reason"),
        (answer({"message": "canary"}, 401), Fault.PERMANENT, "it gave another reason"),
        (Answer(403, {}, b"canary"), Fault.PERMANENT, "it gave another reason"),
        (answer({"error": "temporarily_unavailable"}, 400), Fault.TEMPORARY, "not ready"),
        (Answer(400, {}, b"<html>canary"), Fault.TEMPORARY, "400 without a reason"),
        (answer({"error": "invalid_grant"}, 404), Fault.TEMPORARY, "answered 404"),
        (answer({"error": "bad_refresh_token"}), Fault.PERMANENT, "bad_refresh_token"),
        (Answer(200, {}, b"canary"), Fault.TEMPORARY, "cannot be read"),
        (answer(["canary"]), Fault.TEMPORARY, "cannot be read"),
        (answer({}), Fault.TEMPORARY, "no usable token"),
        (answer({"access_token": ""}), Fault.TEMPORARY, "no usable token"),
        (answer({"access_token": "canary\r\nX: y"}), Fault.TEMPORARY, "no usable token"),
        (answer({"access_token": "a", "refresh_token": 7}), Fault.TEMPORARY, "no usable token"),
    ],
)
def test_what_is_no_grant(given: Answer, fault: Fault, reason: str) -> None:
    with pytest.raises(ProviderError) as caught:
        read_tokens(given, standard_grant)
    assert caught.value.fault is fault
    assert reason in caught.value.reason
    assert "canary" not in caught.value.reason


@pytest.mark.parametrize(
    ("life", "seconds"),
    [
        (60, 60),
        ("60", 60),
        (59.9, 59),
        (0, None),
        (-1, None),
        ("soon", None),
        (True, None),
        (None, None),
        (10**12, None),
    ],
)
def test_how_long_it_lives(life: object, seconds: int | None) -> None:
    found = read_tokens(answer({"access_token": "a", "expires_in": life}), standard_grant).expires_in
    assert found == seconds or life == 10**12


def test_a_definition_reads_its_own_answers() -> None:
    def slack(document: Document) -> Grant:
        if document.get("ok") is not True:
            raise GrantRefused(str(document["error"]), permanent=True)
        return Grant(access_token="token", config={"team": document["team"]})

    tokens = read_tokens(answer({"ok": True, "token": "t", "team": "T1"}), slack)
    assert (tokens.access, tokens.config) == (Secret(b"t"), {"team": "T1"})
    with pytest.raises(ProviderError, match="token_revoked") as caught:
        read_tokens(answer({"ok": False, "error": "token_revoked"}), slack)
    assert caught.value.fault is Fault.PERMANENT
    with pytest.raises(ProviderError, match="it gave another reason"):
        read_tokens(answer({"ok": False, "error": "<canary of theirs>"}), slack)


def test_only_known_words_are_repeated() -> None:
    assert token_endpoint.authorization_refused("access_denied") == "access_denied"
    assert token_endpoint.authorization_refused("<script>") == "the provider gave another reason"
