"""Runs in a sandbox and tries every way out of it, one by one: `python -c SOURCE ARGUMENTS`, ARGUMENTS being JSON.

Prints one JSON object, way to outcome: the name of the error, or what was heard. Only the standard library is here.
"""

import contextlib
import ctypes
import errno
import functools
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator

GIVEN = json.loads(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
LONG = ctypes.c_long
NUMBERS = {
    "x86_64": {"unshare": 272, "setns": 308, "bpf": 321, "keyctl": 250, "ptrace": 101, "process_vm_readv": 310},
    "aarch64": {"unshare": 97, "setns": 268, "bpf": 280, "keyctl": 219, "ptrace": 117, "process_vm_readv": 270},
}[os.uname().machine]
NEW_USER, NEW_NET = 0x10000000, 0x40000000
# The sandbox's deputy: the first that its first process starts.
DEPUTY = 2
PIDFD_GETFD = 438
REQUEST = b"GET / HTTP/1.1\r\nHost: elsewhere.test\r\n\r\n"


def outcome(act: Callable[[], object]) -> str:
    """Do it, and say in a word what came of it."""
    try:
        return str(act())
    except TimeoutError:
        return "TIMEOUT"
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, repr(error))


def call(number: int, *arguments: object) -> str:
    """Make a system call; an errno is raised as one."""
    made = [LONG(each) if isinstance(each, int) else each for each in arguments]
    if libc.syscall(LONG(number), *made) < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return "done"


def tcp(host: str, port: int, protocol: int = 0) -> str:
    """Connect and ask; what is heard first, or how it ends."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM, protocol) as connected:
        connected.settimeout(10)
        connected.connect((host, port))
        connected.sendall(REQUEST)
        return connected.recv(200).decode("latin-1").partition("\r\n")[0] or "closed"


def udp(host: str, port: int) -> str:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as connected:
        connected.settimeout(1)
        connected.connect((host, port))
        connected.send(b"x")
        return connected.recv(200).hex()


def unix(name: str) -> str:
    with socket.socket(socket.AF_UNIX) as connected:
        connected.connect(name)
        return "connected"


def made(family: int, kind: int, protocol: int = 0) -> str:
    """Make a socket of a family that knows of no network namespace, or that sees packets."""
    socket.socket(family, kind, protocol).close()
    return "made"


def netlink(protocol: int, message: str) -> str:
    """Order a change of the network; an errno that the kernel answers is raised as one."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as kernel:
        kernel.settimeout(2)
        kernel.send(bytes.fromhex(message))
        error = -struct.unpack_from("=i", kernel.recv(4096), 16)[0]
        if error:
            raise OSError(error, "refused")
        return "done"


def enter(path: str) -> str:
    opened = os.open(path, os.O_RDONLY)
    return call(NUMBERS["setns"], opened, 0)


def first_byte(path: str) -> str:
    with open(path, "rb") as file:
        return file.read(1).hex()


def written(path: str) -> str:
    with open(path, "w") as file:
        file.write("1")
    return "written"


def in_the_deputy_s_place() -> str:
    """Come to sandboxd as the deputy does, beside it, which starts when this does and may have to be waited for.

    Who comes first is taken for it (decision 0019): what must be is that there is one.
    """
    deadline = time.perf_counter() + 10
    while not _deputy_is_in_its_place():
        if time.perf_counter() > deadline:
            return "no deputy came"
        time.sleep(0.01)
    with socket.socket(socket.AF_UNIX) as connected:
        connected.settimeout(10)
        connected.connect("\0sallyport-deputy")
        return connected.recv(200).hex() or "closed"


def _deputy_is_in_its_place() -> bool:
    """Sandboxd's end of its connection bears the name; the listening one has state 01, a connected one 03."""
    with open("/proc/net/unix") as sockets:
        entries = (line.split() for line in sockets)
        return any(entry[5] == "03" and entry[-1] == "@sallyport-deputy" for entry in entries)


def device() -> str:
    os.mknod("/tmp/memory", 0o20600, os.makedev(1, 1))
    return "made"


def set_user_program() -> str:
    """Say whom a program becomes that belongs to root and says that it runs as root."""
    with open("/proc/mounts") as mounts:
        options = {line.split()[1]: line.split()[3].split(",") for line in mounts}
    return "nosuid" if all("nosuid" in options[path] for path in ("/", "/usr", "/tmp", "/home/sandbox")) else "suid"


def ways() -> Iterator[tuple[str, Callable[[], object]]]:
    """Name every way."""
    for name, (host, port) in GIVEN["tcp"].items():
        yield name, functools.partial(tcp, host, port)
    yield "tcp by mptcp", lambda: tcp("192.0.2.9", 443, 262)
    for name, (host, port) in GIVEN["udp"].items():
        yield name, functools.partial(udp, host, port)
    yield "icmp raw", lambda: made(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    yield "icmp datagram", lambda: made(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
    yield "icmp6 raw", lambda: made(socket.AF_INET6, socket.SOCK_RAW, 58)
    yield "ip raw", lambda: made(socket.AF_INET, socket.SOCK_RAW, 255)
    yield "sctp", lambda: made(socket.AF_INET, socket.SOCK_STREAM, 132)
    yield "packet", lambda: made(17, socket.SOCK_RAW, 0x0300)
    yield "vsock", lambda: made(40, socket.SOCK_STREAM)
    yield "bluetooth", lambda: made(31, socket.SOCK_RAW)
    yield "crypto", lambda: made(38, socket.SOCK_SEQPACKET)
    yield "xdp", lambda: made(44, socket.SOCK_RAW)
    yield "abstract socket of the host", lambda: unix("\0" + GIVEN["abstract"])
    yield "path socket of the host", lambda: unix(GIVEN["path"])
    for name, (protocol, message) in GIVEN["netlink"].items():
        yield name, functools.partial(netlink, protocol, message)
    yield "new user namespace", lambda: call(NUMBERS["unshare"], NEW_USER)
    yield "new network namespace", lambda: call(NUMBERS["unshare"], NEW_NET)
    yield "new namespaces by clone3", lambda: call(435, ctypes.create_string_buffer(88), 88)
    yield "network of the first process", lambda: enter("/proc/1/ns/net")
    yield "network of the host's first process", lambda: enter(GIVEN["network"])
    yield "io_uring", lambda: call(425, 8, ctypes.create_string_buffer(120))
    yield "bpf", lambda: call(NUMBERS["bpf"], 0, 0, 0)
    yield "keys", lambda: call(NUMBERS["keyctl"], 0, -3, 0)
    yield "ptrace of sandboxd", lambda: call(NUMBERS["ptrace"], 16, GIVEN["sandboxd"], 0, 0)
    yield "memory of sandboxd", lambda: first_byte(f"/proc/{GIVEN['sandboxd']}/mem")
    yield "variables of sandboxd", lambda: first_byte(f"/proc/{GIVEN['sandboxd']}/environ")
    yield "signal to sandboxd", lambda: os.kill(GIVEN["sandboxd"], 9)
    yield "memory of the first process", lambda: first_byte("/proc/1/mem")
    yield "ptrace of the deputy", lambda: call(NUMBERS["ptrace"], 16, DEPUTY, 0, 0)
    yield "memory of the deputy", lambda: first_byte(f"/proc/{DEPUTY}/mem")
    yield "variables of the deputy", lambda: first_byte(f"/proc/{DEPUTY}/environ")
    yield "descriptors of the deputy", lambda: os.listdir(f"/proc/{DEPUTY}/fd")
    yield "a descriptor of the deputy", lambda: call(PIDFD_GETFD, os.pidfd_open(DEPUTY), 0, 0)
    yield "root of the deputy", lambda: os.listdir(f"/proc/{DEPUTY}/root")
    yield "network of the deputy", lambda: enter(f"/proc/{DEPUTY}/ns/net")
    yield "the deputy's place", in_the_deputy_s_place
    yield "token", lambda: first_byte(GIVEN["token"])
    yield "folder of the worker", lambda: os.listdir(GIVEN["folder"])
    yield "folder of another sandbox", lambda: os.listdir(GIVEN["other"])
    yield "trust can be written", lambda: written(os.environ["CURL_CA_BUNDLE"])
    yield "setting of the kernel", lambda: written("/proc/sys/net/ipv4/ip_forward")
    yield "device", device
    yield "another root", lambda: os.chroot("/tmp")
    yield "another user", lambda: os.setuid(0)
    yield "rights by a program", set_user_program


def state() -> dict[str, object]:
    """Say what this process is."""
    with open("/proc/self/status") as file:
        status = {name: value.strip() for name, _, value in (line.partition(":\t") for line in file)}
    return {
        "uid": os.getuid(),
        "gids": sorted({os.getgid(), *os.getgroups()}),
        "capabilities": [status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
        "no new privileges": status["NoNewPrivs"],
        "filter": status["Seccomp"],
        "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()),
        "interfaces": [name for _, name in socket.if_nameindex()],
        "descriptors": sorted(_open()),
        "root": sorted(os.listdir("/")),
    }


def _open() -> list[int]:
    found = []
    for number in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):
            os.fstat(number)
            found.append(number)
    return found


if __name__ == "__main__":
    print(json.dumps({"state": state(), "ways": {name: outcome(act) for name, act in ways()}}))
