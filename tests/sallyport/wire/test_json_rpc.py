import json

import pytest

from sallyport.wire.json_rpc import Kind, Message, error_response, read_message


def read(document: object) -> Message | None:
    return read_message(json.dumps(document).encode())


def test_the_three_kinds() -> None:
    request = read({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"_meta": {"progressToken": "t"}}})
    assert request is not None
    assert (request.kind, request.method, request.id, request.progress_token) == (
        Kind.REQUEST,
        "tools/call",
        "1",
        '"t"',
    )
    told = read({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": "t", "progress": 1}})
    assert told is not None
    assert (told.kind, told.progress_token, told.id) == (Kind.NOTIFICATION, '"t"', None)
    given_up = read({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "a"}})
    assert given_up is not None
    assert given_up.cancels == '"a"'
    for document, is_error in (({"result": {}}, False), ({"error": {"code": 1, "message": ""}}, True)):
        response = read({"jsonrpc": "2.0", "id": "1", **document})
        assert response is not None
        assert (response.kind, response.id, response.is_error) == (Kind.RESPONSE, '"1"', is_error)


def test_a_number_and_its_text_are_two_ids() -> None:
    one, other = (read({"jsonrpc": "2.0", "id": each, "method": "x"}) for each in (1, "1"))
    assert one is not None
    assert other is not None
    assert one.id != other.id


def test_the_text_goes_on_as_it_came_on_one_line() -> None:
    body = b'{\r\n  "jsonrpc": "2.0",\n"method":"x", "params": {"big": 1e400, "text": "a\\nb \xc3\xbc"}}\n'
    message = read_message(body)
    assert message is not None
    assert message.line == b'{    "jsonrpc": "2.0", "method":"x", "params": {"big": 1e400, "text": "a\\nb \xc3\xbc"}}'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"\xff",
        b"[]",
        b'[{"jsonrpc":"2.0","id":1,"method":"x"}]',
        b'{"jsonrpc":"1.0","id":1,"method":"x"}',
        b'{"id":1,"method":"x"}',
        b'{"jsonrpc":"2.0","id":null,"method":"x"}',
        b'{"jsonrpc":"2.0","id":true,"method":"x"}',
        b'{"jsonrpc":"2.0","id":1,"method":7}',
        b'{"jsonrpc":"2.0","id":1}',
        b'{"jsonrpc":"2.0","id":1,"method":"x","params":NaN}',
        b'{"jsonrpc":"2.0","id":1,"method":"x","params":"a\nb"}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_message(body: bytes) -> None:
    assert read_message(body) is None


def test_parameters_of_any_shape_are_the_server_s_to_refuse() -> None:
    for params in ([1], "text", {"_meta": 1}, {"_meta": {"progressToken": [1]}}):
        message = read({"jsonrpc": "2.0", "id": 1, "method": "x", "params": params})
        assert message is not None
        assert message.progress_token is None


def test_an_error_in_the_server_s_place() -> None:
    answer = json.loads(error_response('"a"', -32000, "it \n ended", {"code": "x"}))
    assert answer == {
        "jsonrpc": "2.0",
        "id": "a",
        "error": {"code": -32000, "message": "it \n ended", "data": {"code": "x"}},
    }
    assert b"\n" not in error_response(None, 1, "a\nb")
    assert json.loads(error_response(None, 1, ""))["id"] is None
