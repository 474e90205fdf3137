"""The feed's documents, read strictly."""

import json
from typing import Any

import pytest

from control_client.errors import ControlError
from control_client.feed_documents import MAX_SERVERS, feed_document, read_feed, read_push
from control_client.feed_state import Delta, Push

SERVER = {"type": "streamable", "url": "http://host:13200/mcp"}
PUSH: dict[str, Any] = {
    "event": "installation_created",
    "instanceId": "inst_1",
    "delta": {"added": {"github__user_42__install_abc": SERVER}, "removed": ["old"]},
    "meta": {"userId": "42", "toolId": ["anything", {"at": "all"}]},
    "seq": 4,
    "prevSeq": 3,
}


def test_a_feed_is_read_and_written() -> None:
    servers = read_feed(json.dumps({"mcpServers": {"one": SERVER}}).encode())
    assert servers == {"one": "http://host:13200/mcp"}
    assert read_feed(json.dumps(feed_document(servers)).encode()) == servers
    assert read_feed(b'{"mcpServers": {}}') == {}


@pytest.mark.parametrize(
    "document",
    [
        "[]",
        "{}",
        '{"mcpServers": []}',
        '{"mcpServers": {}, "more": 1}',
        '{"mcpServers": {"one": {"type": "stdio", "url": "http://h"}}}',
        '{"mcpServers": {"one": {"type": "streamable"}}}',
        '{"mcpServers": {"one": {"type": "streamable", "url": "http://h", "headers": {}}}}',
        '{"mcpServers": {"": {"type": "streamable", "url": "http://h"}}}',
        '{"mcpServers": {"a\\nb": {"type": "streamable", "url": "http://h"}}}',
        '{"mcpServers": {"one": {"type": "streamable", "url": "http://h"}, "one": {"type": "streamable", "url": "http://h"}}}',
        *(
            json.dumps({"mcpServers": {"one": {"type": "streamable", "url": url}}})
            for url in (
                "file:///etc/passwd",
                "http://",
                "http://u:p@h/",
                "http://h/#f",
                "http://h:x/",
                "http://[h/",
                "h",
            )
        ),
        json.dumps({"mcpServers": {str(number): SERVER for number in range(MAX_SERVERS + 1)}}),
        "\xff",
    ],
)
def test_what_is_no_feed_is_refused_whole(document: str) -> None:
    with pytest.raises(ControlError):
        read_feed(document.encode("latin-1"))


def test_a_push_is_read() -> None:
    delta = Delta(("old",), {"github__user_42__install_abc": "http://host:13200/mcp"})
    assert read_push(json.dumps(PUSH).encode()) == Push("installation_created", "inst_1", delta, "42", 4, 3)
    bare = {"event": "config_changed", "instanceId": "inst_1"}
    assert read_push(json.dumps(bare).encode()) == Push("config_changed", "inst_1", None, None, None, None)


@pytest.mark.parametrize(
    "change",
    [
        {"event": None},
        {"instanceId": 1},
        {"delta": []},
        {"delta": {"added": {}}},
        {"delta": {"removed": []}},
        {"delta": {"added": {}, "removed": [""]}},
        {"delta": {"added": {"one": {}}, "removed": []}},
        {"delta": {"added": {}, "removed": [], "changed": {}}},
        {"meta": "text"},
        {"seq": -1},
        {"seq": "4"},
        {"more": 1},
    ],
)
def test_what_is_no_push_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ControlError):
        read_push(json.dumps(PUSH | change).encode())
