"""HAR 1.2: every member that its specification asks for, with values of the right kind."""

import io
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest

from sallyport_cli.har import har_entry, write_har
from sallyport_cli.recording import RecordedExchange
from tests.support.recorded import cancelled_exchange, recorded_exchange, refused_exchange

# http://www.softwareishard.com/blog/har-12-spec/, what is not marked optional.
REQUIRED: Mapping[str, type | tuple[type, ...]] = {
    "startedDateTime": str,
    "time": (int, float),
    "request.method": str,
    "request.url": str,
    "request.httpVersion": str,
    "request.cookies": list,
    "request.headers": list,
    "request.queryString": list,
    "request.headersSize": int,
    "request.bodySize": int,
    "response.status": int,
    "response.statusText": str,
    "response.httpVersion": str,
    "response.cookies": list,
    "response.headers": list,
    "response.content.size": int,
    "response.content.mimeType": str,
    "response.redirectURL": str,
    "response.headersSize": int,
    "response.bodySize": int,
    "cache": dict,
    "timings.send": (int, float),
    "timings.wait": (int, float),
    "timings.receive": (int, float),
}
EXCHANGES = {"sent": recorded_exchange(), "refused": refused_exchange(), "cancelled": cancelled_exchange()}


def parsed(document: Mapping[str, Any]) -> RecordedExchange:
    return RecordedExchange.model_validate_json(json.dumps(document))


def assert_is_har(document: Mapping[str, Any]) -> None:
    """Assert what the specification demands of a whole document."""
    log = document["log"]
    assert log["version"] == "1.2"
    assert isinstance(log["creator"]["name"], str)
    assert isinstance(log["creator"]["version"], str)
    for entry in log["entries"]:
        for path, kind in REQUIRED.items():
            value: Any = entry
            for name in path.split("."):
                value = value[name]
            assert isinstance(value, kind), path
        for pair in (*entry["request"]["headers"], *entry["request"]["queryString"], *entry["response"]["headers"]):
            assert pair.keys() == {"name", "value"}
        assert datetime.fromisoformat(entry["startedDateTime"]).tzinfo is not None
        assert all(value >= 0 for value in entry["timings"].values())
        post = entry["request"].get("postData")
        assert post is None or {"mimeType", "text"} <= post.keys()


def test_every_kind_of_exchange_is_har() -> None:
    file = io.BytesIO()
    assert write_har(map(parsed, EXCHANGES.values()), file) == 3
    assert_is_har(json.loads(file.getvalue()))


def test_no_exchange_is_har_too() -> None:
    file = io.BytesIO()
    assert write_har([], file) == 0
    assert_is_har(json.loads(file.getvalue()))


def test_the_check_finds_what_is_missing() -> None:
    entry = har_entry(parsed(recorded_exchange()))
    del entry["cache"]
    with pytest.raises(KeyError):
        assert_is_har({"log": {"version": "1.2", "creator": {"name": "", "version": ""}, "entries": [entry]}})


def test_an_entry_says_what_was_sent_answered_and_decided() -> None:
    entry: Any = har_entry(parsed(recorded_exchange()))
    assert entry["request"]["url"] == "https://api.test/v1?a=b&c="
    assert entry["request"]["queryString"] == [{"name": "a", "value": "b"}, {"name": "c", "value": ""}]
    assert {"name": "Authorization", "value": "Bearer REDACTED"} in entry["request"]["headers"]
    assert entry["request"]["postData"]["text"] == "question"
    assert entry["response"]["content"] == {"size": 2, "mimeType": "text/plain", "text": "/wA=", "encoding": "base64"}
    assert entry["timings"] == {"blocked": 10.25, "send": 0, "wait": 9.75, "receive": 10.5}
    assert entry["_sallyport"]["decision"] == "inject"
    assert entry["_sallyport"]["received"]["target"] == "/v1?a=b"


def test_what_is_not_there_is_said() -> None:
    refused: Any = har_entry(parsed(refused_exchange()))
    assert refused["response"]["content"]["comment"] == "cut short when it was recorded"
    cancelled: Any = har_entry(parsed(cancelled_exchange()))
    assert cancelled["response"]["status"] == 0
    assert cancelled["request"]["postData"]["comment"] == "not recorded: it is coded"
