"""What sandboxd says a stream of its tunnel is: the one Sallyport-Stream field of the stream's first head.

The field is taken off before the head is read like any other, so the codec's refusal of every Sallyport-* field from a
sandbox needs no exception, and none goes upstream (contracts section 2).
"""

import re
from typing import Final, NamedTuple

from gateway.core.decision import Mode
from sallyport.wire.errors import RemoteProtocolError

_FIELD: Final = b"sallyport-stream"
# Sixteen digits hold every revision (at most 2^53), and bound what int() is given.
_VALUE: Final = re.compile(rb"(intercepted|passthrough|plain); revision=([1-9][0-9]{0,15})(; cleartext)?")


class Declaration(NamedTuple):
    """How the stream's bytes are meant, and the plan revision of the managed set that this was decided by.

    is_cleartext: what was sent inside an intercepted CONNECT was no TLS, so its requests are http:// ones (A1).
    """

    mode: Mode
    revision: int
    is_cleartext: bool = False


def take_declaration(head: bytes) -> tuple[Declaration, bytes]:
    """Return what a head declares, and the head without it; raises RemoteProtocolError unless it does so once."""
    first, *lines = head.split(b"\r\n")
    found = [line for line in lines if line.partition(b":")[0].lower() == _FIELD]
    if len(found) != 1:
        raise RemoteProtocolError("a tunnel's stream begins with exactly one Sallyport-Stream field")
    declared = _VALUE.fullmatch(found[0].partition(b":")[2].strip(b" \t"))
    if declared is None:
        raise RemoteProtocolError("the Sallyport-Stream field is not MODE; revision=NUMBER")
    mode = Mode(declared[1].decode("ascii"))
    if declared[3] and mode is not Mode.INTERCEPTED:
        raise RemoteProtocolError("only an intercepted stream can be cleartext")
    lines.remove(found[0])
    return Declaration(mode, int(declared[2]), bool(declared[3])), b"\r\n".join((first, *lines))
