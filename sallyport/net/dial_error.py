"""Why no connection came about."""

import enum
import errno

# The process or the machine is at its limit: nothing is wrong with the destination, and its next address helps no more.
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


class DialFault(enum.Enum):
    """The kind. Only UNRESOLVED, UNREACHABLE, TIMEOUT and OVERLOADED can change by trying again."""

    ADDRESS_REFUSED = "address_refused"
    UNRESOLVED = "unresolved"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    PROXY_REFUSED = "proxy_refused"
    OVERLOADED = "overloaded"  # we are, whatever the destination is


class DialError(Exception):
    """A dial failed. `str()` is the kind alone; `detail` may name addresses and is for the log only."""

    def __init__(self, kind: DialFault, detail: str) -> None:
        super().__init__(kind.value)
        self.kind = kind
        self.detail = detail


def fault_of(error: BaseException, otherwise: DialFault) -> DialFault:
    """Say what an exception of the system means."""
    is_exhausted = isinstance(error, OSError) and error.errno in _EXHAUSTED
    return DialFault.OVERLOADED if is_exhausted else otherwise
