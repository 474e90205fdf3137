"""A stream that brings a setup document: of the announced size, ended by a half-close. Its answer is a status."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from sallyport.wire.http1.answers import ESTABLISHED
from sandboxd.setup.announcement import Announcement
from sandboxd.stream_answers import StreamRefused, not_found


class TakesDocuments(Protocol):
    """Whom documents are for: the set-up, or who hands them to a deputy."""

    def announced(self, revision: int) -> Announcement | None:
        """What was announced last, if it is of this revision."""

    def document_received(self, revision: int, body: bytes) -> None:
        """Take an announced document; what is wrong with it is told by a status."""


class DocumentStream(asyncio.Protocol):
    """The protocol of such a stream, whose head asks for `setup/<revision>`; it answers 200.

    `on_end` is called when the stream is gone. Raises StreamRefused where no such document was announced.
    """

    def __init__(
        self, stream: asyncio.Transport, setup: TakesDocuments, revision: str, on_end: Callable[[], None]
    ) -> None:
        is_number = revision.isascii() and revision.isdecimal() and len(revision) < 17
        announced = setup.announced(int(revision)) if is_number else None
        if announced is None:
            raise StreamRefused(not_found("no document of this revision was announced"))
        self._stream = stream
        self._setup = setup
        self._announced = announced
        self._on_end = on_end
        self._body = bytearray()
        stream.write(ESTABLISHED)

    def data_received(self, data: bytes) -> None:
        """A piece of the document; more than was announced ends the stream."""
        self._body += data
        if len(self._body) > self._announced.size_bytes:
            self._body.clear()
            self._stream.abort()

    def eof_received(self) -> bool:
        """The document is whole."""
        body = bytes(self._body)
        self._body.clear()
        self._setup.document_received(self._announced.revision, body)
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """The stream is gone; half a document is forgotten."""
        self._on_end()
