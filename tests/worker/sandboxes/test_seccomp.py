"""The filter of system calls, run by an interpreter of ours; that the kernel runs it too is seen in a sandbox."""

import errno
import socket
import struct

import pytest

from worker.sandboxes.seccomp import ARCHITECTURES, SOCKET_FAMILIES, Architecture, filter_program

ALLOWED = 0x7FFF0000
AF_VSOCK, AF_PACKET, AF_ALG, AF_XDP = 40, 17, 38, 44


def verdict(architecture: Architecture, number: int, first: int = 0, audit: int | None = None) -> int:
    """Run the program over one call: 0 allows it, anything else is its errno."""
    lines = list(struct.iter_unpack("=HBBI", filter_program(architecture)))
    data = struct.pack("=iIQQ", number, architecture.audit if audit is None else audit, 0, first)
    accumulator = place = 0
    while True:
        code, yes, no, value = lines[place]
        place += 1
        if code == 0x20:
            accumulator = struct.unpack_from("=I", data, value)[0]
        elif code == 0x06:
            return 0 if value == ALLOWED else value & 0xFFFF
        else:
            is_so = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[code]
            place += yes if is_so else no


@pytest.fixture(params=sorted(ARCHITECTURES))
def architecture(request: pytest.FixtureRequest) -> Architecture:
    return ARCHITECTURES[request.param]


def test_sockets_of_this_network_alone(architecture: Architecture) -> None:
    for number in (architecture.socket, architecture.socketpair):
        families = {family for family in range(64) if verdict(architecture, number, family) == 0}
        assert families == set(SOCKET_FAMILIES)
        for family in (AF_VSOCK, AF_PACKET, AF_ALG, AF_XDP, 0xFFFFFFFF):
            assert verdict(architecture, number, family) == errno.EAFNOSUPPORT
    assert set(SOCKET_FAMILIES) == {socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK}


def test_processes_yes_and_namespaces_no(architecture: Architecture) -> None:
    assert verdict(architecture, architecture.clone, 0x01200011) == 0  # fork, as glibc does it
    assert verdict(architecture, architecture.clone, 0x003D0F00) == 0  # a thread
    assert verdict(architecture, architecture.unshare, 0x400) == 0  # CLONE_FILES
    for flag in (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert verdict(architecture, architecture.clone, flag | 0x11) == errno.EPERM
        assert verdict(architecture, architecture.unshare, flag) == errno.EPERM


def test_what_no_filter_could_look_into_is_not_there(architecture: Architecture) -> None:
    for number in (425, 426, 427, 435):
        assert verdict(architecture, number) == errno.ENOSYS


def test_what_asks_the_kernel_for_more_is_refused(architecture: Architecture) -> None:
    assert {verdict(architecture, number) for number in architecture.refused} == {errno.EPERM}
    assert len(set(architecture.refused)) == len(architecture.refused) == 21


def test_calls_of_another_machine_are_not_there(architecture: Architecture) -> None:
    assert verdict(architecture, 0, audit=0x40000003) == errno.ENOSYS  # i386
    assert verdict(architecture, 0x40000000 | architecture.socket) == errno.ENOSYS  # x32


def test_all_else_is_allowed(architecture: Architecture) -> None:
    named = {*architecture.refused, architecture.socket, architecture.socketpair, 425, 426, 427, 435}
    young = {428, 429, 430, 431, 432, 433, 438, 442}
    assert all(verdict(architecture, number) == 0 for number in set(range(460)) - named - young)
