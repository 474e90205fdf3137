"""Subscribers that the configuration names: one by the variables that clients know, more of them by a file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, StringConstraints, ValidationError

from control_plane.feed.tiers import Tier
from control_plane.outbound.url import url_fault
from control_plane.push.events import EVENTS
from sallyport.net.yaml_file import read_yaml
from sallyport.plan.codec import MAX_ISSUES, json_pointer
from sallyport.plan.fields import Id, Listed, Model
from sallyport.plan.schema_faults import schema_faults
from sallyport.secret import Secret, why_unusable
from sallyport.settings import ConfigError

# Each is told of every change of its instance; more is a list of something else.
MAX_SUBSCRIBERS: Final = 100
MAX_SECRET_BYTES: Final = 4_096

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,59}$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredSubscriber:
    """A subscriber that the configuration names. instance_id None: it hears of every instance."""

    name: str
    url: str
    secret: Secret
    tier: Tier
    instance_id: str | None = None
    events: tuple[str, ...] = ()


class _Written(Model):
    """One entry of the file."""

    name: Name
    url: Annotated[str, StringConstraints(max_length=2_048)]
    secret_file: Annotated[str, StringConstraints(min_length=1, max_length=4_096)]
    tier: Annotated[Tier, Field(strict=False)] = Tier.STANDARD
    instance_id: Id | None = None
    events: Listed[str] = ()


class _File(Model):
    subscribers: Annotated[tuple[_Written, ...], Field(strict=False, max_length=MAX_SUBSCRIBERS)]


def read_subscribers(path: Path) -> tuple[ConfiguredSubscriber, ...]:
    """Return the subscribers of a file; raise ValueError with everything that is wrong with it, and no secret."""
    try:
        document = read_yaml(path)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    written, faults = _read(document)
    found = []
    for index, each in enumerate(written):
        faults += [f"/subscribers/{index}{fault}" for fault in _faults(each)]
        secret = _secret(path.parent / each.secret_file)
        if isinstance(secret, str):
            faults.append(f"/subscribers/{index}/secretFile: {secret}")
            continue
        given = each.model_dump(exclude={"secret_file"})
        found.append(ConfiguredSubscriber(**given, secret=secret))
    names = [each.name for each in written]
    faults += [
        f"/subscribers: {name} stands twice" for name in sorted({name for name in names if names.count(name) > 1})
    ]
    if faults:
        raise ValueError(f"{path}: {'; '.join(faults)}")
    return tuple(found)


def secret_fault(text: str) -> str | None:
    """Say why a text cannot be shown as a bearer; None where it can."""
    if not text.isascii() or " " in text:
        return "it has a character that no bearer has"
    return why_unusable(text)


def _read(document: Mapping[str, object]) -> tuple[tuple[_Written, ...], list[str]]:
    try:
        return _File.model_validate(dict(document)).subscribers, []
    except ValidationError as error:
        faults = schema_faults(error, document, already=frozenset(), most=MAX_ISSUES, unions=())
        return (), [f"{json_pointer(fault.path) or '/'}: {fault.message}" for fault in faults]


def _faults(written: _Written) -> list[str]:
    fault = url_fault(written.url, is_plain_on_loopback=True)
    faults = [] if fault is None else [f"/url: {fault}"]
    return faults + [f"/events: there is no event {event!a}" for event in written.events if event not in EVENTS]


def _secret(path: Path) -> Secret | str:
    """Return the secret of a file, whose last newline is not its; or what is wrong, in words."""
    try:
        with path.open("rb") as opened:
            content = opened.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    if len(content) > MAX_SECRET_BYTES:
        return f"it is longer than {MAX_SECRET_BYTES} bytes"
    content = content.removesuffix(b"\n").removesuffix(b"\r")
    fault = secret_fault(content.decode("latin-1"))
    return Secret(content) if fault is None else fault
