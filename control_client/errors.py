"""What can go wrong between a part and its control plane, as one error: a word, and whether asking again may help."""

from typing import Final

# Words of ours, beside those the control plane itself answers with (contracts sections 4 and 9).
UNREACHABLE: Final = "control_unreachable"
TIMEOUT: Final = "control_timeout"
UNEXPECTED_ANSWER: Final = "control_answer_unexpected"
ANSWER_TOO_LARGE: Final = "control_answer_too_large"
TOKEN_UNREADABLE: Final = "service_token_unreadable"
UNAUTHORIZED: Final = "unauthorized"


class ControlError(Exception):
    """The control plane gave no usable answer.

    code is its word or one of ours. temporary: the same request may succeed later; what was known before stays good.
    status is 0 where no answer came. The text is for the operator's log and holds nothing of an answer's body; words
    are the answer's own, of a part whose words may be shown.
    """

    def __init__(
        self,
        code: str,
        *,
        temporary: bool,
        detail: str = "",
        retry_after_seconds: int = 0,
        status: int = 0,
        words: str = "",
    ) -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.temporary = temporary
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds
        self.status = status
        self.words = words


def unexpected(detail: str, *, status: int = 0) -> ControlError:
    """Return the error of an answer that is not what was asked for; whoever answered may be right again in a moment."""
    return ControlError(UNEXPECTED_ANSWER, temporary=True, detail=detail, retry_after_seconds=1, status=status)
