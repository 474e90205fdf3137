"""Control messages of a tunnel, and what sandboxd keeps of tokens.

The first byte of the input says who reads the rest: the gateway (0), sandboxd (1, and 2 for several messages in a
line each), sandboxd's token file (3). Allowed outcomes, for any bytes:
- the gateway: ValueError; an object that is JSON again when it is written, with a short text where it has a requestId;
- sandboxd: RemoteProtocolError; a managed set whose patterns and ports are ones, however many messages it came in;
  tokens that are visible ASCII and times that can be counted with;
- the file: ValueError that quotes nothing; tokens.
"""

import json
from collections.abc import Mapping

from gateway.tunnel_host import _request_id
from sallyport.claims import MAX_TEXT_LENGTH
from sallyport.host import parse_host_pattern
from sallyport.json_object import json_object
from sallyport.wire.errors import RemoteProtocolError
from sandboxd.core.intake import ManagedSet, ManagedSetReader
from sandboxd.core.renewal import Renewal, Tokens, read_token_file
from tests.support.fuzzing import run

NOW = 1_800_000_000.0
JWT = b"e30.eyJleHAiOjE4MDAwMDA5MDB9.sig"
SET = b'{"type":"interception.set","revision":7,"hosts":[{"pattern":"*.example.com","ports":[443,0]}]}'
RESPONSE = (
    b'{"type":"token.response","requestId":"r1","token":"a.b.c","expiresAt":1800000900,'
    b'"renewalToken":"d.e.f","renewalExpiresAt":1800086400}'
)
SEEDS = (
    b'\x00{"type":"token.request","requestId":"ren_1"}',
    b'\x00{"type":"setup.status","revision":7,"state":"done","steps":[{"name":"a","state":"done","issue":null}]}',
    b'\x00{"type":"setup.status","revision":1e999,"state":[-0.0,1E5,"\\ud800"]}',
    b"\x01" + SET,
    b"\x01" + RESPONSE,
    b"\x01" + RESPONSE.replace(b"1800000900", b"9" * 400),
    b'\x01{"type":"token.error","requestId":"r1","code":"not_configured","retryable":false}',
    b"\x02" + SET.replace(b"]}]}", b']}],"more":true}') + b"\n" + SET + b"\n" + RESPONSE,
    b"\x03" + JWT + b"\n",
    b'\x03{"token":"' + JWT + b'","renewalToken":"x"}',
    b'\x03{"token":' + b"[" * 64,
)


def check(data: bytes) -> None:
    """Check one input."""
    who, text = (data[0] if data else 0), data[1:]
    match who % 4:
        case 0:
            check_gateway(text)
        case 3:
            try:
                check_tokens(read_token_file(text))
            except ValueError as error:
                assert str(error)
        case _:
            check_sandboxd(text.split(b"\n") if who % 4 == 2 else [text])


def check_gateway(text: bytes) -> None:
    """What a sandbox says is an object that the admin listener can show."""
    try:
        message = json_object(text)
    except ValueError:
        return
    assert json_object(json.dumps(message, allow_nan=False).encode("ascii")) == message
    try:
        request_id = _request_id(message)
    except ValueError:
        return
    assert 0 < len(request_id) <= MAX_TEXT_LENGTH


def check_sandboxd(texts: list[bytes]) -> None:
    """What a gateway says, read as sandboxd's tunnel does, one message after the other."""
    managed, renewal = ManagedSetReader(), Renewal()
    for text in texts:
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            return
        if not isinstance(message, dict):
            return
        try:
            act(message, managed, renewal)
        except RemoteProtocolError as error:
            assert error.reason
            return


def act(message: Mapping[str, object], managed: ManagedSetReader, renewal: Renewal) -> None:
    """Take one message by every reader: what it says it is decides nothing here."""
    try:
        found = managed.take(message)
    except RemoteProtocolError:
        found = None
    if isinstance(found, ManagedSet):
        assert 0 <= found.revision < 2**53
        for entry in found.hosts:
            assert parse_host_pattern(str(entry.pattern)) == entry.pattern
            assert entry.ports <= frozenset(range(65536))
    renewal.failed(message, NOW)
    assert renewal.due(NOW, "r2") in (None, "r1", "r2")
    renewal.answered(message, NOW)
    check_tokens(renewal.tokens)
    renewal.due(NOW, "r3")
    renewal.bearer(NOW)


def check_tokens(tokens: Tokens) -> None:
    """They can be shown and counted with."""
    for token in (tokens.token, tokens.renewal):
        assert token.isascii()
        assert token.isprintable()
    for ends_at in (tokens.expires_at, tokens.renewal_expires_at):
        assert ends_at is None or 0 <= float(ends_at) < 2**53
    assert "." not in repr(tokens)


if __name__ == "__main__":
    run(check, SEEDS)
