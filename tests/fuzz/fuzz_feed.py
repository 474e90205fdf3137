"""What a feed answers, what its pushes say, and what signs them.

The first byte of the input says what the rest is: a feed (0), a push (1), a signature over an empty body (2).
Allowed outcomes, for any bytes:
- ControlError, which quotes no address that came;
- servers whose addresses are http or https, and which are read back from the document that they are written as;
- a push which, taken by whatever is known, gives something known, nothing, or a question; no server that is neither
  known nor in it;
- a signature that is not the secret's.
"""

import json
from urllib.parse import urlsplit

from control_client.errors import ControlError
from control_client.feed_documents import MAX_SERVERS, feed_document, read_feed, read_push
from control_client.feed_state import Known, take_push
from control_client.push_signature import is_signed
from sallyport.secret import Secret
from tests.support.fuzzing import run

KNOWN = Known({"known": "http://known"}, 7)
SECRET = Secret(b"secret")
SEEDS = (
    b'\x00{"mcpServers": {"one": {"type": "streamable", "url": "http://host:13200/mcp"}}}',
    b'\x00{"mcpServers": {"a": {"type": "streamable", "url": "https://[::1]:1/?a#b"}}}',
    b'\x01{"event": "shared_tool_started", "instanceId": "i", "seq": 9, "prevSeq": 7, '
    b'"delta": {"added": {}, "removed": ["known"]}}',
    b'\x01{"event": "installation_created", "instanceId": "i", "seq": 8, "prevSeq": 7, "meta": {"userId": "u"}, '
    b'"delta": {"added": {"x": {"type": "streamable", "url": "http://x"}}, "removed": []}}',
    b'\x01{"event": "config_changed", "instanceId": "i"}',
    b"\x02v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE= v1,",
)


def check(data: bytes) -> None:
    """Check one input."""
    kind, content = (data[0] if data else 0), data[1:]
    try:
        match kind % 3:
            case 0:
                check_feed(content)
            case 1:
                check_push(content)
            case _:
                signature = content.decode("utf-8", "surrogateescape")
                assert not is_signed(SECRET, "id", "1", signature, b"", now=1)
    except ControlError as error:
        assert error.temporary


def check_feed(content: bytes) -> None:
    """Whatever is read can be spoken to, and written."""
    servers = read_feed(content)
    assert len(servers) <= MAX_SERVERS
    for url in servers.values():
        parts = urlsplit(url)
        assert parts.scheme in ("http", "https")
        assert parts.hostname
        assert parts.username is None
    assert read_feed(json.dumps(feed_document(servers)).encode()) == servers


def check_push(content: bytes) -> None:
    """Whatever is read can be taken."""
    push = read_push(content)
    outcome = take_push(KNOWN, push, instance_id="i", user_id="u")
    if isinstance(outcome, Known):
        assert push.delta is not None
        assert outcome.at == push.seq
        assert set(outcome.servers) <= {*KNOWN.servers, *push.delta.added}


if __name__ == "__main__":
    run(check, SEEDS)
