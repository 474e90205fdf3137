"""Prove that an account is a member's: a token of their own, which sees it, is asked for, used once and thrown away."""

from control_plane.definitions.contract import ConfigToProve, standard_grant
from control_plane.oauth.provider_error import permanent, temporary
from control_plane.oauth.provider_session import ProviderSession
from control_plane.oauth.token_endpoint import Client, ask_token_endpoint, bare_code


async def prove(session: ProviderSession, claim: ConfigToProve, client: Client) -> None:
    """Return if the claim is true; raises ProviderError."""
    tokens = await ask_token_endpoint(session, claim.token, client, bare_code(claim.code), standard_grant)
    headers = {"Authorization": f"Bearer {tokens.access.reveal().decode('utf-8')}", "Accept": "application/json"}
    answer = await session.get(claim.url, headers)
    if answer.status in (401, 403, 404):
        raise permanent("the provider does not show this account to the member who came back")
    if answer.status != 200:
        raise temporary(f"the provider answered {answer.status}")
