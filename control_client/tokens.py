"""Fresh tokens for a sandbox's tunnel, in exchange for a renewal token or on a gateway's word (contracts section 3)."""

from typing import Final, NamedTuple
from urllib.parse import quote

from control_client.errors import unexpected
from control_client.members import read_object
from control_client.session import ControlSession

MAX_ANSWER_BYTES: Final = 64 * 1024
# A token of ours is some 500 bytes; nobody verifies one beyond this.
MAX_TOKEN_TEXT: Final = 8 * 1024


class IssuedTokens(NamedTuple):
    """A tunnel token and the renewal token that comes after it. Instants are unix seconds."""

    token: str
    expires_at: int
    renewal_token: str
    renewal_expires_at: int

    def __repr__(self) -> str:
        return f"<IssuedTokens until {self.expires_at}>"


async def issue_tokens(
    session: ControlSession, sandbox_id: str, request_id: str, renewal_token: str | None, lineage: str | None
) -> IssuedTokens:
    """Ask for tokens; raises ControlError. The same request_id gets the same answer for a minute: a retry is safe.

    Without a renewal token they are of the lineage that is named, else of the sandbox's latest.
    """
    path = f"/internal/sandboxes/{quote(sandbox_id, safe='')}/tokens"
    document: dict[str, object] = {"requestId": request_id}
    if renewal_token is not None:
        document["renewalToken"] = renewal_token
    if lineage is not None:
        document["sid"] = lineage
    answer = await session.ask("tokens", "POST", path, document=document, most_bytes=MAX_ANSWER_BYTES)
    members = read_object(answer.body)
    if members.text("requestId") != request_id:
        raise unexpected("/requestId is another request's")
    issued = IssuedTokens(
        members.text("token", most=MAX_TOKEN_TEXT),
        members.instant("expiresAt"),
        members.text("renewalToken", most=MAX_TOKEN_TEXT),
        members.instant("renewalExpiresAt"),
    )
    members.end()
    return issued
