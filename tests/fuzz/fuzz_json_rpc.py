"""One message between an MCP client and a server that speaks in lines.

Allowed outcomes, for any bytes: None; a Message on one line that says the same, and is read as the same once more. An
answer in the server's place is JSON on one line, whatever the id and the words.
"""

import json

from sallyport.wire.json_rpc import Kind, error_response, read_message
from tests.support.fuzzing import run

SEEDS = (
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"progressToken":"t"},"name":"echo"}}',
    b'{"jsonrpc":"2.0","id":"a","result":{}}\r\n',
    b'{"jsonrpc":"2.0","id":"a","error":{"code":-32000,"message":"no"}}',
    b'{\n "jsonrpc": "2.0",\n "method": "notifications/cancelled", "params": {"requestId": 7}}',
    b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":7,"progress":1e400}}',
)


def check(data: bytes) -> None:
    """Check one input."""
    message = read_message(data)
    if message is None:
        return
    assert not {b"\r"[0], b"\n"[0]} & set(message.line)
    assert repr(json.loads(message.line)) == repr(json.loads(data))
    assert read_message(message.line) == message
    assert (message.kind is Kind.REQUEST) <= (message.id is not None)
    answer = error_response(message.id, -32000, message.method)
    assert b"\n" not in answer
    assert read_message(answer) is not None


if __name__ == "__main__":
    run(check, SEEDS)
