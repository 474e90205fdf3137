"""Token endpoints (RFC 6749): the question, the client's authentication, and what the answer means."""

import base64
import json
import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple
from urllib.parse import quote, quote_plus, urlencode, urlsplit

from control_plane.definitions.contract import AuthorizationRequest, Document, Grant, GrantRefused, TokenCall
from control_plane.oauth import proof
from control_plane.oauth.provider_error import Fault, ProviderError, permanent, temporary
from control_plane.oauth.provider_session import Answer, ProviderSession
from sallyport.secret import Secret, why_unusable

# RFC 6749 sections 4.1.2.1 and 5.2, RFC 8628: only these words of a provider are ever repeated.
_WORDS: Final = frozenset(
    {
        *("invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type"),
        *("invalid_scope", "access_denied", "unsupported_response_type", "invalid_token", "consent_required"),
        *("interaction_required", "login_required", "bad_verification_code", "bad_refresh_token"),
        *("incorrect_client_credentials", "redirect_uri_mismatch"),
    }
)
_PASSING: Final = frozenset({"server_error", "temporarily_unavailable", "slow_down"})
_WORD: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
# Ten years: what a provider calls unlimited.
_MAX_LIFE: Final = 10 * 366 * 86_400


class Client(NamedTuple):
    """What an OAuth client is known by. A public one has no secret."""

    id: Secret
    secret: Secret | None


class Tokens(NamedTuple):
    """What a token endpoint gave; `config` belongs into the connection's configuration."""

    access: Secret
    refresh: Secret | None
    expires_in: int | None
    config: Document


def authorization_url(
    request: AuthorizationRequest, client_id: Secret, *, state: str, redirect_uri: str, verifier: Secret
) -> str:
    """Return where the browser goes. What a definition adds never replaces what is ours."""
    ours = {
        "response_type": "code",
        "client_id": _text(client_id),
        "redirect_uri": redirect_uri,
        "state": state,
        "code_challenge": proof.challenge(verifier),
        "code_challenge_method": "S256",
    }
    scopes = {"scope": " ".join(request.scopes)} if request.scopes else {}
    return with_query(request.url, {**request.parameters, **scopes, **ours})


def with_query(url: str, members: Mapping[str, str]) -> str:
    """Return a URL with further members in its query."""
    return f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(members, quote_via=quote)}"


def authorization_code(code: str, verifier: Secret, redirect_uri: str) -> Mapping[str, str | Secret]:
    """Return the members of a code's exchange."""
    return {**bare_code(code), "redirect_uri": redirect_uri, "code_verifier": verifier}


def bare_code(code: str) -> Mapping[str, str | Secret]:
    """Return the members of the exchange of a code that came without having been asked for."""
    return {"grant_type": "authorization_code", "code": Secret(code.encode("utf-8", "surrogatepass"))}


def refresh_token(token: Secret) -> Mapping[str, str | Secret]:
    """Return the members of a refresh."""
    return {"grant_type": "refresh_token", "refresh_token": token}


def client_credentials(scopes: tuple[str, ...]) -> Mapping[str, str | Secret]:
    """Return the members of an exchange of client credentials."""
    asked = {"scope": " ".join(scopes)} if scopes else {}
    return {"grant_type": "client_credentials", **asked}


async def ask_token_endpoint(
    session: ProviderSession,
    call: TokenCall,
    client: Client,
    members: Mapping[str, str | Secret],
    read_grant: Callable[[Document], Grant],
) -> Tokens:
    """Ask a token endpoint; raises ProviderError."""
    sent: dict[str, str | Secret] = {**call.parameters, **members}
    headers = {**call.headers, "Accept": "application/json"}
    if call.client_authentication == "basic" and client.secret is not None:
        # RFC 6749 section 2.3.1: both are form-encoded first.
        pair = f"{quote_plus(_text(client.id))}:{quote_plus(_text(client.secret))}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode('ascii')}"
    else:
        sent["client_id"] = client.id
        if call.client_authentication == "post" and client.secret is not None:
            sent["client_secret"] = client.secret
    plain = {name: value if isinstance(value, str) else _text(value) for name, value in sent.items()}
    if call.encoding == "json":
        body, headers["Content-Type"] = json.dumps(plain).encode(), "application/json"
    else:
        body, headers["Content-Type"] = urlencode(plain).encode(), "application/x-www-form-urlencoded"
    return read_tokens(await session.post(call.url, body, headers), read_grant)


def read_tokens(answer: Answer, read_grant: Callable[[Document], Grant]) -> Tokens:
    """Return the tokens of an answer; raises ProviderError."""
    if answer.status != 200:
        raise _refusal(answer)
    document = answer.document()
    try:
        grant = read_grant(document)
    except GrantRefused as refused:
        fault = Fault.PERMANENT if refused.permanent else Fault.TEMPORARY
        # A definition may pass on a word of the provider's, and a word is all that it may be.
        reason = refused.reason if _WORD.fullmatch(refused.reason) else "it gave another reason"
        raise ProviderError(fault, f"the provider refused: {reason}") from None
    if "error" in document and grant.access_token not in document:
        raise _refused_by(document.get("error"))  # some say so with status 200
    return Tokens(
        access=_token(document, grant.access_token),
        refresh=_token(document, grant.refresh_token) if document.get(grant.refresh_token) else None,
        expires_in=_seconds(document.get(grant.expires_in)),
        config=grant.config,
    )


def authorization_refused(error: str) -> str:
    """Return our words for the error a browser came back with."""
    return error if error in _WORDS else "the provider gave another reason"


def _refusal(answer: Answer) -> ProviderError:
    if answer.status not in (400, 401, 403):
        return temporary(f"the provider answered {answer.status}")
    try:
        word = answer.document().get("error")
    except ProviderError:
        word = None
    if word is None and answer.status == 400:
        return temporary("the provider answered 400 without a reason")
    return _refused_by(word)


def _refused_by(word: object) -> ProviderError:
    if not isinstance(word, str) or word not in _WORDS | _PASSING:
        return permanent("the provider refused: it gave another reason")
    return temporary("the provider is not ready") if word in _PASSING else permanent(f"the provider refused: {word}")


def _token(document: Document, name: str) -> Secret:
    value = document.get(name)
    if not isinstance(value, str) or why_unusable(value) is not None:
        raise temporary("the provider's answer holds no usable token")
    return Secret(value.encode("utf-8"))


def _seconds(value: object) -> int | None:
    """Some write the number as text; what is no number of seconds is no end."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 12:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        return None
    return min(int(value), _MAX_LIFE)


def _text(secret: Secret) -> str:
    return secret.reveal().decode("utf-8")
