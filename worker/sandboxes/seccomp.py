"""Which system calls the processes of a sandbox cannot make: a filter program for the kernel (seccomp(2)).

Namespaces hold what goes over a network. This holds what knows of none: sockets to the hypervisor (AF_VSOCK) and other
rare families, and io_uring, which makes sockets that no filter sees. The rest of the list is what asks the kernel for
more than a program needs, and has been a way out of containers before.
"""

import errno
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

# linux/bpf_common.h, linux/filter.h: load a word of seccomp_data, jump if equal, if at least, if any bit; return.
_LOAD: Final = 0x20
_EQUAL: Final = 0x15
_AT_LEAST: Final = 0x35
_ANY_BIT: Final = 0x45
_RETURN: Final = 0x06
_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050000
# struct seccomp_data: the number, the architecture, then the arguments, each 8 bytes with its low half first.
_NUMBER: Final = 0
_ARCHITECTURE: Final = 4
_FIRST_ARGUMENT: Final = 16
_INSTRUCTION: Final = struct.Struct("=HBBI")

# AF_UNIX, AF_INET, AF_INET6, AF_NETLINK (glibc asks it for addresses; of this network alone).
SOCKET_FAMILIES: Final = (1, 2, 10, 16)
# CLONE_NEWUSER and the namespaces that come with it.
_NEW_NAMESPACES: Final = 0x7E020080
# x86_64 has a second set of numbers, from here on (x32).
_X32: Final = 0x40000000


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What one kind of machine calls its system calls. `refused` are those of the list below by number."""

    audit: int
    socket: int
    socketpair: int
    clone: int
    unshare: int
    refused: tuple[int, ...]


# The same numbers on all machines, because they are younger than the agreement on that. clone3 takes its flags where no
# filter can look, and libraries fall back to clone where it is not there; so do those that would use io_uring.
_IO_URING: Final = (425, 426, 427)
_CLONE3: Final = 435
_YOUNG: Final = (428, 429, 430, 431, 432, 433, 438, 442)  # open_tree .. fspick, pidfd_getfd, mount_setattr

ARCHITECTURES: Final[Mapping[str, Architecture]] = {
    "x86_64": Architecture(
        audit=0xC000003E,
        socket=41,
        socketpair=53,
        clone=56,
        unshare=272,
        # setns mount umount2 pivot_root chroot swapon swapoff reboot init_module delete_module finit_module
        # kexec_load kexec_file_load bpf perf_event_open add_key request_key keyctl userfaultfd open_by_handle_at acct
        refused=(
            *(308, 165, 166, 155, 161, 167, 168, 169, 175, 176, 313),
            *(246, 320, 321, 298, 248, 249, 250, 323, 304, 163),
        ),
    ),
    "aarch64": Architecture(
        audit=0xC00000B7,
        socket=198,
        socketpair=199,
        clone=220,
        unshare=97,
        refused=(
            *(268, 40, 39, 41, 51, 224, 225, 142, 105, 106, 273),
            *(104, 294, 280, 241, 217, 218, 219, 282, 265, 89),
        ),
    ),
}


def filter_program(architecture: Architecture) -> bytes:
    """Write the program: struct sock_filter, one after the other. What is refused gets an errno and lives on."""
    lines: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture.audit),  # another machine's calls (32 bits) would be read by the wrong numbers
        _refuse(errno.ENOSYS),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32),
        _refuse(errno.ENOSYS),
    ]
    for number in (*_IO_URING, _CLONE3):
        lines += [(_EQUAL, 0, 1, number), _refuse(errno.ENOSYS)]
    for number in (*architecture.refused, *_YOUNG):
        lines += [(_EQUAL, 0, 1, number), _refuse(errno.EPERM)]
    for number in (architecture.socket, architecture.socketpair):
        lines += _if(number, _families())
    for number in (architecture.clone, architecture.unshare):
        lines += _if(number, [(_ANY_BIT, 0, 1, _NEW_NAMESPACES), _refuse(errno.EPERM)])
    lines.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(_INSTRUCTION.pack(*line) for line in lines)


def _if(number: int, body: Sequence[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
    """Look at the first argument of one call; whatever the body does not refuse is allowed."""
    whole = [(_LOAD, 0, 0, _FIRST_ARGUMENT), *body, (_RETURN, 0, 0, _ALLOW)]
    return [(_EQUAL, 0, len(whole), number), *whole]


def _families() -> list[tuple[int, int, int, int]]:
    count = len(SOCKET_FAMILIES)
    # Each one that is known jumps over the others and the refusal.
    known = [(_EQUAL, count - place, 0, family) for place, family in enumerate(SOCKET_FAMILIES)]
    return [*known, _refuse(errno.EAFNOSUPPORT)]


def _refuse(number: int) -> tuple[int, int, int, int]:
    return (_RETURN, 0, 0, _REFUSE | number)
