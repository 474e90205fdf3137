"""What is said before a setup document comes: its revision, its digest, its size."""

from collections.abc import Mapping
from dataclasses import dataclass

from sallyport.setup import MAX_SETUP_BYTES, setup_digest
from sallyport.wire.errors import RemoteProtocolError

# What a status says of a document that is another one than was announced.
NOT_ANNOUNCED = "what came is not what was announced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """A document that the gateway is about to send."""

    revision: int
    digest: str
    size_bytes: int

    def is_of(self, body: bytes) -> bool:
        """Say whether these are the announced bytes."""
        return len(body) == self.size_bytes and setup_digest(body) == self.digest


def read_announcement(message: Mapping[str, object]) -> Announcement:
    """Read `setup.apply {revision, digest, sizeBytes}`; raises RemoteProtocolError for one that says nothing."""
    match message:
        case {"revision": int(revision), "digest": str(digest), "sizeBytes": int(size)} if (
            revision > 0 and 0 < size <= MAX_SETUP_BYTES
        ):
            return Announcement(revision=revision, digest=digest, size_bytes=size)
    raise RemoteProtocolError("setup.apply without revision, digest and a size within the limit")
