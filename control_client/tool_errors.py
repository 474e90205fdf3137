"""Why a tool call gave no result, and whether it may be made again.

ToolCallError    a call without a result; code is its word, may_repeat says that it was not begun
ServerError      a server that could not be made ready
"""

from typing import Final

UNKNOWN: Final = "tool_unknown"  # no such tool in the present set
GONE: Final = "server_gone"  # its link was closed before the call was sent
UNREACHABLE: Final = "server_unreachable"  # the server took no connection, or none of this session
UNAUTHORIZED: Final = "server_unauthorized"  # the server does not accept the key
BUSY: Final = "too_many_calls"  # more calls wait than the link holds
UNSENDABLE: Final = "arguments_unsendable"  # they are no JSON
REFUSED: Final = "call_refused"  # the server answered with an error of the protocol
CUT: Final = "call_cut"  # sent, and no answer came: it may have been carried out
TIMEOUT: Final = "call_timeout"  # sent, and no answer came in time: likewise

# What the server cannot have begun.
_NOT_BEGUN: Final = frozenset({UNKNOWN, GONE, UNREACHABLE, UNAUTHORIZED, BUSY})


class ToolCallError(Exception):
    """A call without a result. may_repeat: it was not begun, so that making it again does nothing twice."""

    def __init__(self, code: str, detail: str = "", *, rpc_code: int | None = None) -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail
        self.rpc_code = rpc_code
        self.may_repeat = code in _NOT_BEGUN


class ServerError(Exception):
    """A server could not be made ready; str() says why."""
