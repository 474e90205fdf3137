"""Why a call gave no result."""

import pytest

from control_client import tool_errors
from control_client.tool_errors import ToolCallError


@pytest.mark.parametrize(
    ("code", "may_repeat"),
    [
        (tool_errors.UNKNOWN, True),
        (tool_errors.GONE, True),
        (tool_errors.UNREACHABLE, True),
        (tool_errors.UNAUTHORIZED, True),
        (tool_errors.BUSY, True),
        (tool_errors.UNSENDABLE, False),
        (tool_errors.REFUSED, False),
        (tool_errors.CUT, False),
        (tool_errors.TIMEOUT, False),
    ],
)
def test_each_says_whether_it_may_be_made_again(code: str, may_repeat: bool) -> None:
    assert ToolCallError(code).may_repeat is may_repeat
    assert str(ToolCallError(code, "one")) == f"{code}: one"
