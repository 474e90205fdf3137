"""A sandbox's interception authority, which the control plane made and keeps. Its key is held in memory only."""

from typing import Final, NamedTuple
from urllib.parse import quote

from control_client.members import read_object
from control_client.session import ControlSession

# A certificate and a P-256 key are 2 KiB together.
MAX_ANSWER_BYTES: Final = 64 * 1024


class FetchedAuthority(NamedTuple):
    """Two PEM documents, not yet parsed."""

    certificate_pem: bytes
    private_key_pem: bytes
    not_after: int

    def __repr__(self) -> str:
        return f"<FetchedAuthority until {self.not_after}>"


async def fetch_authority(session: ControlSession, sandbox_id: str) -> FetchedAuthority:
    """Return the authority of a sandbox; raises ControlError."""
    path = f"/internal/sandboxes/{quote(sandbox_id, safe='')}/interception-ca"
    members = read_object((await session.ask("authority", "GET", path, most_bytes=MAX_ANSWER_BYTES)).body)
    found = FetchedAuthority(
        members.raw_text("certificatePem", most=MAX_ANSWER_BYTES).encode("utf-8"),
        members.raw_text("privateKeyPem", most=MAX_ANSWER_BYTES).encode("utf-8"),
        members.instant("notAfter"),
    )
    members.end()
    return found
