"""Installation tokens of a GitHub App (GitHub's "Generating an installation access token for a GitHub App").

A token is always narrowed to named repositories. What the answer says of them is believed over what was asked.
"""

import json
from datetime import datetime
from typing import Final
from urllib.parse import quote

import jwt

from control_plane.definitions.contract import GitHubInstallationToken
from control_plane.oauth.provider_error import Fault, ProviderError, permanent, temporary
from control_plane.oauth.provider_session import Answer, Made, ProviderSession
from sallyport.secret import Secret, why_unusable

# GitHub takes ten minutes at most, counted by its own clock, and advises to date the token back.
BACK_SECONDS: Final = 60
LIFE_SECONDS: Final = 600


async def ask_installation_token(
    session: ProviderSession, now: float, *, source: GitHubInstallationToken, app_id: Secret, private_key: Secret
) -> Made:
    """Return a token for the source's repositories; raises ProviderError."""
    if not source.repositories:
        raise ProviderError(Fault.REQUEST, "no repository is bound, and a token without one would be for all")
    asked: dict[str, object] = {"repositories": sorted({name.partition("/")[2] for name in source.repositories})}
    if source.permissions is not None:
        asked["permissions"] = dict(source.permissions)
    url = f"{source.api_base_url}/app/installations/{quote(source.installation_id, safe='')}/access_tokens"
    headers = {
        "Authorization": f"Bearer {_app_token(app_id, private_key, now)}",
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2022-11-28",
        "Content-Type": "application/json",
    }
    answer = await session.post(url, json.dumps(asked).encode(), headers)
    if answer.status != 201:
        raise _refusal(answer)
    return _read(answer.document(), source)


def _app_token(app_id: Secret, private_key: Secret, now: float) -> str:
    issued = int(now) - BACK_SECONDS
    claims = {"iss": app_id.reveal().decode("utf-8"), "iat": issued, "exp": issued + LIFE_SECONDS}
    try:
        return jwt.encode(claims, private_key.reveal(), "RS256")
    except (jwt.PyJWTError, ValueError, TypeError):
        raise permanent("the App's private key cannot be used") from None


def _refusal(answer: Answer) -> ProviderError:
    # Over a rate limit GitHub answers 403 too.
    if answer.status == 403 and (answer.headers.get("x-ratelimit-remaining") == "0" or "retry-after" in answer.headers):
        return temporary("the provider limits the rate of requests")
    if answer.status == 422:
        return ProviderError(Fault.REQUEST, "the installation does not reach every bound repository")
    if answer.status in (401, 403):
        return permanent(f"the provider refused the App: {answer.status}")
    if answer.status == 404:
        return permanent("the installation is gone")
    return temporary(f"the provider answered {answer.status}")


def _read(document: dict[str, object], source: GitHubInstallationToken) -> Made:
    token, until = document.get("token"), document.get("expires_at")
    if not isinstance(token, str) or why_unusable(token) is not None or not isinstance(until, str):
        raise temporary("the provider's answer holds no usable token")
    try:
        expires_at = int(datetime.fromisoformat(until).timestamp())
    except ValueError:
        raise temporary("the provider's answer cannot be read") from None
    listed = document.get("repositories")
    if isinstance(listed, list):
        names = {str(each.get("full_name")).lower() for each in listed if isinstance(each, dict)}
        if not names <= {name.lower() for name in source.repositories}:
            # Another owner's repository of the same name.
            raise ProviderError(Fault.REQUEST, "the installation is not of the bound repositories' owner")
    return Made(Secret(token.encode("utf-8")), expires_at)
