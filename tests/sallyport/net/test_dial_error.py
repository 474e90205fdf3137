import errno
import socket

import pytest

from sallyport.net.dial_error import DialError, DialFault, fault_of


def test_its_text_says_the_kind_and_no_address() -> None:
    error = DialError(DialFault.UNREACHABLE, "10.0.0.1:443: refused")
    assert (str(error), error.detail) == ("unreachable", "10.0.0.1:443: refused")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.EMFILE, "Too many open files"), DialFault.OVERLOADED),
        (OSError(errno.ENFILE, "Too many open files in system"), DialFault.OVERLOADED),
        (OSError(errno.ENOBUFS, "No buffer space available"), DialFault.OVERLOADED),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), DialFault.UNREACHABLE),
        (socket.gaierror(socket.EAI_NONAME, "not known"), DialFault.UNREACHABLE),
        (ValueError("no address"), DialFault.UNREACHABLE),
    ],
)
def test_t5_only_an_exhausted_system_is_overloaded(error: Exception, kind: DialFault) -> None:
    assert fault_of(error, DialFault.UNREACHABLE) is kind
