"""What a control plane answers: its event stream and its documents.

The first byte of the input says what the rest is: the event stream (0), a credential (1), tokens (2), an interception
authority (3), a key set (4), an event's data by each name (5). Allowed outcomes, for any bytes:
- ControlError, and UnusableCredential for a credential; neither quotes what came;
- the same events, or the same error, however the bytes are cut, and none larger than the limit;
- a value of the type that was asked for, whose texts and instants are within their bounds.
"""

from collections.abc import Coroutine
from typing import cast

from control_client.authorities import fetch_authority
from control_client.callers import read_keys
from control_client.credentials import CredentialQuestion, ResolvedValue, UnusableCredential, resolve_credential
from control_client.errors import ControlError
from control_client.event_stream import Event, EventStream
from control_client.members import LAST_INSTANT
from control_client.plans import _READERS, read_event
from control_client.session import Answer, ControlSession
from control_client.tokens import issue_tokens
from tests.support.fuzzing import run

MOST = 64
QUESTION = CredentialQuestion("sbx_one", 1, "r", "bnd_one", "con_one", "api_key", None, None)
SEEDS = (
    b"\x00: hello\n\nid: 7\nevent: plan\ndata: {}\n\nretry: 1\r\ndata: a\r\ndata:b\r\n\r\n",
    b"\x00event: " + b"x" * 70 + b"\ndata\n\n",
    b'\x01{"kind":"value","value":"s3cr3t","expiresAt":1800000000,"version":"v1"}',
    b'\x01{"kind":"aws_session","accessKeyId":"A","secretAccessKey":"b","sessionToken":"c","expiresAt":1,"version":"v"}',
    b'\x01{"kind":"value","value":"a\\r\\nb","version":"v1"}',
    b'\x02{"requestId":"r1","token":"a.b.c","expiresAt":1,"renewalToken":"d","renewalExpiresAt":2}',
    b'\x03{"certificatePem":"a","privateKeyPem":"b\\ud800","notAfter":1}',
    b'\x04{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}',
    b'\x05{"plans":[{"sandboxId":"sbx_1","revision":1,"digest":"d"}],"revocations":[]}',
    b'\x05{"kind":"jti","id":"x","until":1800000000}',
    b'\x05{"kind":"all"}',
)


class Scripted:
    """A session that answers every question with the same bytes."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def ask(self, *_: object, **__: object) -> Answer:
        return cast(Answer, Answered(self._body))


class Answered:
    """An answer."""

    def __init__(self, body: bytes) -> None:
        self.body = body


def answered[T](asked: Coroutine[object, None, T]) -> T:
    """Run a question that waits for nothing."""
    try:
        asked.send(None)
    except StopIteration as done:
        return cast(T, done.value)
    raise AssertionError("it waited")


def check(data: bytes) -> None:
    """Check one input."""
    kind, content = (data[0] if data else 0), data[1:]
    session = cast(ControlSession, Scripted(content))
    try:
        match kind % 6:
            case 0:
                check_stream(content)
            case 1:
                check_credential(session)
            case 2:
                issued = answered(issue_tokens(session, "sbx_one", "r1", None, None))
                assert issued.token.isprintable()
                assert 0 <= issued.expires_at <= LAST_INSTANT
                assert issued.token not in repr(issued) or len(issued.token) < 8
            case 3:
                found = answered(fetch_authority(session, "sbx_one"))
                assert 0 <= found.not_after <= LAST_INSTANT
                assert found.certificate_pem.decode("utf-8") is not None
            case 4:
                assert all(isinstance(kid, str) for kid in read_keys(content))
            case _:
                check_event(content)
    except ControlError as error:
        assert error.code
    except UnusableCredential as error:
        assert str(error).startswith("it ")


def check_stream(data: bytes) -> None:
    """Feed it whole and byte by byte."""
    whole, cut = events_of(data, max(1, len(data))), events_of(data, 1)
    if isinstance(whole, str) and isinstance(cut, str):
        return  # of several faults another may be found first
    assert whole == cut
    assert all(len(event.data) <= MOST for event in whole if isinstance(event, Event))


def events_of(data: bytes, size: int) -> list[Event] | str:
    """Give the events, or what was wrong."""
    stream, found = EventStream(MOST), []
    try:
        for at in range(0, len(data), size):
            found += stream.feed(data[at : at + size])
    except ControlError as error:
        return str(error)
    return found


def check_credential(session: ControlSession) -> None:
    """It can stand in a header, and is not printed."""
    found = answered(resolve_credential(session, QUESTION))
    secret = found.value if isinstance(found, ResolvedValue) else found.session_token or found.secret_access_key
    value = secret.reveal()
    assert value
    assert not any(byte < 0x20 or byte == 0x7F for byte in value)
    assert repr(secret) == "<Secret>"


def check_event(data: bytes) -> None:
    """Read it by every name; a name that is not known reads nothing."""
    assert read_event("other", data) is None
    for name in _READERS:
        try:
            assert read_event(name, data) is not None
        except ControlError as error:
            assert error.temporary


if __name__ == "__main__":
    run(check, SEEDS)
