"""The file that `sallyport flows record` writes: one JSON object a line (docs/flows.md), read back strictly."""

import base64
import binascii
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, BinaryIO, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from control_client.gateway import MAX_RECORDED_LINE_BYTES
from sallyport_cli.failure import environment

_OTHER_KINDS = ("recording", "dropped", "alive", "end")


def _latin(text: str) -> str:
    text.encode("latin-1")
    return text


# A head's bytes, each as one character.
Octets = Annotated[str, AfterValidator(_latin)]


class _Part(BaseModel):
    # Unknown members are passed over, so that a newer gateway's recording can be read.
    model_config = ConfigDict(strict=True, frozen=True, alias_generator=to_camel, extra="ignore")


class RecordedHead(_Part):
    """A request's head: its target and its fields in order."""

    target: Octets
    fields: list[tuple[Octets, Octets]]
    scheme: Literal["http", "https"] = "http"

    def field(self, name: str) -> str | None:
        """Return the first field of a name."""
        return next((value for key, value in self.fields if key.lower() == name), None)


class RecordedAnswer(_Part):
    """An answer's head."""

    status: Annotated[int, Field(ge=100, le=599)]
    reason: Octets
    fields: list[tuple[Octets, Octets]]


class RecordedBody(_Part):
    """What was kept of a body, and why not all of it was."""

    size_bytes: Annotated[int, Field(ge=0)]
    text: str | None = None
    base64: str | None = None
    truncated: bool = False
    omitted: str | None = None

    @property
    def content(self) -> bytes:
        """The bytes that were kept; raises ValueError where they are not base64."""
        if self.base64 is None:
            return (self.text or "").encode("utf-8")
        try:
            return base64.b64decode(self.base64, validate=True)
        except binascii.Error:
            raise ValueError("not base64") from None


class RecordedExchange(_Part):
    """One exchange as it was recorded; what is named as in the audit record means the same."""

    number: int
    time: Annotated[datetime, Field(strict=False)]
    request_id: str
    method: Octets
    host: Octets | None = None
    port: int | None = None
    scheme: Literal["http", "https"] = "http"
    sandbox_id: str | None = None
    decision: str
    outcome: str
    code: str | None = None
    egress_rule_id: str | None = None
    connection_id: str | None = None
    upstream_address: str | None = None
    duration_ms: float
    sent_ms: float | None = None
    answered_ms: float | None = None
    received: RecordedHead
    sent: RecordedHead | None = None
    answer: RecordedAnswer | None = None
    request_body: RecordedBody | None = None
    answer_body: RecordedBody | None = None

    @property
    def head(self) -> RecordedHead:
        """The head as it went upstream, or as it came where nothing was sent."""
        return self.sent or self.received.model_copy(update={"scheme": self.scheme})

    @property
    def url(self) -> str:
        """Where the request went, as one URL."""
        head = self.head
        if head.target.lower().startswith(("http://", "https://")):
            return head.target
        slash = "" if head.target.startswith("/") else "/"
        return f"{head.scheme}://{head.field('host') or self.host or 'unknown.invalid'}{slash}{head.target}"

    @property
    def decided(self) -> dict[str, object]:
        """What the gateway decided, for whoever looks at the exported exchange."""
        names = ("request_id", "sandbox_id", "decision", "outcome", "code", "egress_rule_id", "connection_id")
        return {to_camel(name): value for name in names if (value := getattr(self, name)) is not None}


class BrokenLine(NamedTuple):
    """A line that is not one of a recording."""

    number: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.number}: {self.reason}"


def read_recording(path: Path) -> Iterator[RecordedExchange | BrokenLine]:
    """Yield every exchange of a recording, and every line that is broken; raises Failure where it cannot be read."""
    try:
        with path.open("rb") as file:
            yield from _read_lines(file)
    except OSError as error:
        raise environment(f"{path} cannot be read: {error.strerror}", "correct the path or its permissions") from None


def _read_lines(file: BinaryIO) -> Iterator[RecordedExchange | BrokenLine]:
    number = 0
    while line := file.readline(MAX_RECORDED_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_RECORDED_LINE_BYTES:
            yield BrokenLine(number, f"is longer than {MAX_RECORDED_LINE_BYTES >> 20} MiB; reading ends here")
            return
        found = _read_line(number, line)
        if found is not None:
            yield found


def _read_line(number: int, line: bytes) -> RecordedExchange | BrokenLine | None:
    try:
        kind = _Kind.model_validate_json(line).kind
        if kind in _OTHER_KINDS:
            return None
        if kind != "exchange":
            return BrokenLine(number, f"is of a kind that is not known: {kind[:40]!r}")
        exchange = RecordedExchange.model_validate_json(line)
        for body in (exchange.request_body, exchange.answer_body):
            _ = b"" if body is None else body.content
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = "/".join(map(str, first["loc"]))
        return BrokenLine(number, f"/{place}: {first['msg']}" if place else first["msg"])
    except ValueError as error:
        return BrokenLine(number, str(error))
    return exchange


class _Kind(_Part):
    kind: str
