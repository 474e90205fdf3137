"""What shuts a process in: a root of its own, another user without rights, a filter of system calls (Linux).

Called in this order by the process that becomes the first one of a sandbox (cell.py), while it is still root.
"""

import ctypes
import os
import platform
import resource
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from worker.sandboxes.seccomp import ARCHITECTURES, filter_program

# linux/mount.h
_READ_ONLY, _NO_SUID, _NO_DEVICES, _NO_EXEC = 1, 2, 4, 8
_REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 32, 4096, 16384, 1 << 18
_DETACH: Final = 2
# mount_setattr(2), pivot_root(2): not in glibc of every age. The number of the first is the same on all machines.
_MOUNT_SETATTR: Final = 442
_PIVOT_ROOT: Final = {"x86_64": 155, "aarch64": 41}
_HERE: Final = -100  # AT_FDCWD
_AT_RECURSIVE: Final = 0x8000
# linux/prctl.h
_PARENT_DEATH_SIGNAL, _DROP_BOUNDING, _NO_NEW_PRIVILEGES, _SECCOMP = 1, 24, 38, 22
_FILTER: Final = 2

_DEVICES: Final = ("null", "zero", "full", "random", "urandom", "tty")
HOME: Final = "/home/sandbox"
SCRATCH: Final = "/tmp"
RESOLVER: Final = "nameserver 127.0.0.1\n"

_libc = ctypes.CDLL(None, use_errno=True)


class ConfinementError(Exception):
    """The kernel refuses a part of it; says which."""


def end_with_parent(signal_number: int) -> None:
    """Have the kernel send this process a signal when its parent ends."""
    _prctl(_PARENT_DEATH_SIGNAL, signal_number)


def enter_root(root: Path, *, shared: Sequence[Path], home: Path, scratch: Path, trust: Path) -> None:
    """Make a file system of this process's own over an empty folder, and enter it.

    `shared` are folders and files of this machine that are there at their own paths and cannot be written to; `home`
    and `scratch` (/tmp) can be. `trust` is at its own path too, because files in it name each other. Nothing else of
    this machine is there: no socket that has a path, no other /proc.
    """
    if any(trust.is_relative_to(own) for own in (HOME, SCRATCH)):
        raise ConfinementError(f"{trust} is below what is the sandbox's own; keep its folder elsewhere")
    _mount("none", Path("/"), None, _RECURSIVE | _PRIVATE)
    _mount("tmpfs", root, "tmpfs", _NO_SUID | _NO_DEVICES, "mode=755,size=16m")
    for path in shared:
        _share(root, path)
    _bind(trust, root / trust.relative_to("/"), _READ_ONLY | _NO_SUID | _NO_DEVICES)
    # What the sandbox may write to comes last, and nothing is ever made in it: whatever is there is the sandbox's, and
    # a link in it could lead us anywhere.
    _bind(home, root / HOME[1:], _NO_SUID | _NO_DEVICES)
    _bind(scratch, root / SCRATCH[1:], _NO_SUID | _NO_DEVICES)
    for name in ("run", "var"):
        (root / name).mkdir(exist_ok=True)
    if not (root / "var/tmp").exists():
        (root / "var/tmp").symlink_to(SCRATCH)
    _resolve_here(root)
    _devices(root)
    (root / "proc").mkdir()
    _mount("proc", root / "proc", "proc", _NO_SUID | _NO_DEVICES | _NO_EXEC)
    _mount("none", root, None, _REMOUNT | _BIND | _READ_ONLY | _NO_SUID | _NO_DEVICES)
    os.chdir(root)
    # The new root over the old one, which is then taken off from above it: no folder is needed to put it in.
    _call(_libc.syscall(_PIVOT_ROOT[platform.machine()], b".", b"."), "a root of its own")
    _call(_libc.umount2(b".", _DETACH), "the end of the old root")
    os.chdir("/")


def give_up_rights(uid: int, gid: int, *, most_processes: int, most_files: int) -> None:
    """Become another user, for good: no capability is left, and no program can give any back."""
    _prctl(_NO_NEW_PRIVILEGES, 1)
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text(encoding="ascii"))
    for capability in range(last + 1):
        _prctl(_DROP_BOUNDING, capability)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Of this user alone, who has nothing else.
    resource.setrlimit(resource.RLIMIT_NPROC, (most_processes, most_processes))
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def filter_calls() -> None:
    """Install the filter of system calls; needs no rights after give_up_rights."""
    program = filter_program(ARCHITECTURES[platform.machine()])
    lines = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(lines))
    _prctl(_SECCOMP, _FILTER, ctypes.c_char_p(described))


def _share(root: Path, path: Path) -> None:
    """Show a path of this machine in the new root, as it is there; what is not there is left out."""
    here = root / path.relative_to("/")
    here.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        here.symlink_to(path.readlink())
    elif path.exists():
        _bind(path, here, _READ_ONLY | _NO_SUID | _NO_DEVICES)


def _resolve_here(root: Path) -> None:
    """Ask this machine for names: whatever is asked, wherever it is asked, is redirected."""
    resolver = root / "run/resolv.conf"
    resolver.write_text(RESOLVER, encoding="ascii")
    named = root / "etc/resolv.conf"
    if named.is_symlink():
        # A link to what a daemon writes, below /run: its target is ours here.
        target = root / os.path.normpath(Path("/etc") / named.readlink())[1:]
        if target.is_relative_to(root / "run"):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(RESOLVER, encoding="ascii")
    elif named.exists():
        _bind(resolver, named, _READ_ONLY)


def _devices(root: Path) -> None:
    devices = root / "dev"
    devices.mkdir()
    _mount("tmpfs", devices, "tmpfs", _NO_SUID | _NO_EXEC, "mode=755,size=64k")
    for name in _DEVICES:
        (devices / name).touch()
        _mount(f"/dev/{name}", devices / name, None, _BIND)
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        (devices / name).symlink_to(target)
    for name in ("pts", "shm"):
        (devices / name).mkdir()
    _mount("devpts", devices / "pts", "devpts", _NO_SUID | _NO_EXEC, "newinstance,ptmxmode=0666,mode=620")
    (devices / "ptmx").symlink_to("pts/ptmx")
    _mount("tmpfs", devices / "shm", "tmpfs", _NO_SUID | _NO_DEVICES, "mode=1777,size=64m")


def _bind(source: Path, target: Path, flags: int) -> None:
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    elif not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    _mount(str(source), target, None, _BIND | _RECURSIVE)
    # struct mount_attr: what is set, what is cleared, propagation, a user namespace. Whatever is mounted below it too.
    attributes = struct.pack("=QQQQ", flags, 0, 0, 0)
    done = _libc.syscall(_MOUNT_SETATTR, _HERE, os.fsencode(target), _AT_RECURSIVE, attributes, len(attributes))
    _call(done, f"the protection of {source}")


def _mount(source: str, target: Path, kind: str | None, flags: int, data: str | None = None) -> None:
    done = _libc.mount(
        source.encode(),
        os.fsencode(target),
        None if kind is None else kind.encode(),
        ctypes.c_ulong(flags),
        None if data is None else data.encode(),
    )
    _call(done, f"a mount at {target}")


def _prctl(option: int, *arguments: int | ctypes.c_char_p) -> None:
    values = [ctypes.c_ulong(each) if isinstance(each, int) else each for each in arguments]
    _call(_libc.prctl(option, *values, *[ctypes.c_ulong(0)] * (4 - len(values))), f"prctl {option}")


def _call(result: int, what: str) -> None:
    if result < 0:
        raise ConfinementError(f"the kernel refuses {what}: {os.strerror(ctypes.get_errno())}")
