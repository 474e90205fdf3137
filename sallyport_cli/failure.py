"""How a command fails: with a sentence, a way out, and one of few exit statuses."""

import enum


class ExitStatus(enum.IntEnum):
    """What a command's exit status means; `sallyport run` passes on its command's own."""

    OK = 0
    FAILED_CHECK = 1  # it ran, and the answer is no
    BAD_INPUT = 2  # the arguments or a file's contents
    ENVIRONMENT = 3  # a taken port, an unreadable file, a gateway that does not answer
    OWN_FAULT = 70  # a bug of ours, as in sysexits.h
    NOT_EXECUTABLE = 126  # `run`, as shells have it
    NOT_FOUND = 127
    INTERRUPTED = 130


class Failure(Exception):
    """A command cannot go on. `hint` says what to do; neither may hold a secret."""

    def __init__(self, status: ExitStatus, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.hint = hint


def bad_input(message: str, hint: str = "") -> Failure:
    """Return a failure of arguments or of a file's contents."""
    return Failure(ExitStatus.BAD_INPUT, message, hint)


def environment(message: str, hint: str = "") -> Failure:
    """Return a failure of what is around the command."""
    return Failure(ExitStatus.ENVIRONMENT, message, hint)
