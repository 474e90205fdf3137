"""What is in the images of tests: programs of this machine, at the paths where they are here. Nothing is pulled."""

import importlib.metadata
import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.requirements import Requirement

from tests.support.gateway_process import ROOT

# Whom containers of an image with Sallyport run as, and where that user is at home.
USER, UID, HOME = "sandbox", 1000, "/home/sandbox"
# A shell, and what tests run in it.
PROGRAMS = ("sh", "sleep", "cat", "id", "env", "curl", "ls", "rm", "touch")
# What a deputy is made of, and what the programs of tests import.
_PACKAGES = ("sallyport", "sandboxd")
_DISTRIBUTIONS = ("uvloop", "aiohttp")
# Of Python's own library more than half is for those who build or test it, or have a screen.
_LEFT_OUT = re.compile(
    r"/(test|idlelib|tkinter|turtledemo|ensurepip|pydoc_data|site-packages|config-[^/]*)$"
    r"|/(_test\w*|_tkinter)\.[^/]*\.so$|\.opt-\d\.pyc$"
)


def pack_programs(archive: Path) -> None:
    """Pack the programs with the libraries they name."""
    with tarfile.open(archive, "w") as packed:
        _Image(packed).programs(PROGRAMS)


def pack_sallyport(archive: Path) -> None:
    """Pack the programs, git, the Python of these tests with Sallyport, and a user with a home."""
    with tarfile.open(archive, "w") as packed:
        image = _Image(packed)
        image.programs([*PROGRAMS, "git"])
        image.git_over_http()
        image.python()
        image.text("etc/passwd", f"{USER}:x:{UID}:{UID}::{HOME}:/bin/sh\n")
        image.text("etc/group", f"{USER}:x:{UID}:\n")
        image.folder("home")
        image.folder(HOME, owner=UID)


class _Image:
    """An archive that is being written. Always: what a program or library needs of libraries is in it too."""

    def __init__(self, packed: tarfile.TarFile) -> None:
        self._packed = packed
        self._libraries: set[str] = set()
        for name in ("etc", "proc", "sys", "dev"):
            self.folder(name)
        self.folder("tmp", mode=0o1777)

    def folder(self, name: str, *, mode: int = 0o755, owner: int = 0) -> None:
        """Add an empty folder."""
        found = tarfile.TarInfo(name.lstrip("/"))
        found.type, found.mode, found.uid, found.gid = tarfile.DIRTYPE, mode, owner, owner
        self._packed.addfile(found)

    def text(self, name: str, content: str) -> None:
        """Add a file."""
        found = tarfile.TarInfo(name)
        found.size = len(content)
        self._packed.addfile(found, io.BytesIO(content.encode()))

    def programs(self, names: Iterable[str]) -> None:
        """Add programs, all in /bin."""
        for name in names:
            path = shutil.which(name)
            assert path is not None, name
            self._add(path, f"bin/{name}")
            self._needed_by([path])

    def git_over_http(self) -> None:
        """Add what git starts for URLs."""
        found = subprocess.run(["git", "--exec-path"], capture_output=True, text=True, check=True).stdout.strip()
        for name in ("git-remote-http", "git-remote-https"):
            self._add(f"{found}/{name}")
        self._needed_by([f"{found}/git-remote-https"])

    def python(self) -> None:
        """Add the Python that runs the tests, and in its packages Sallyport, as if it were installed."""
        program = os.path.realpath(sys.executable)
        self._add(program)
        self._tree(os.path.dirname(os.__file__))
        # As the environment of these tests has them: by the file beside it Python finds its packages.
        self._add(f"{sys.prefix}/pyvenv.cfg")
        link = tarfile.TarInfo(sys.executable.lstrip("/"))
        link.type, link.linkname = tarfile.SYMTYPE, program
        self._packed.addfile(link)
        packages = sysconfig.get_path("platlib")
        for file in _files_of(_DISTRIBUTIONS):
            self._add(f"{packages}/{file}")
        for name in _PACKAGES:
            self._tree(str(ROOT / name), f"{packages}/{name}")
        self._needed_by([program, *(f"/{name}" for name in self._packed.getnames() if name.endswith(".so"))])

    def _add(self, path: str, name: str | None = None) -> None:
        """Add a file; what is a link here is a file there."""
        self._packed.add(os.path.realpath(path), (name or path).lstrip("/"))

    def _tree(self, path: str, name: str | None = None) -> None:
        self._packed.add(path, (name or path).lstrip("/"), filter=_wanted)

    def _needed_by(self, programs: Iterable[str]) -> None:
        said = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=False).stdout.split()
        libraries = {word for word in said if word.startswith("/") and not word.endswith(":")}
        for library in sorted(libraries - self._libraries):
            self._add(library)
        self._libraries |= libraries


def _wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if _LEFT_OUT.search(f"/{member.name}") else member


def _files_of(names: Iterable[str]) -> Iterator[Path]:
    """Name the files of distributions and of all that they require, from where packages are."""
    seen: set[str] = set()
    left = list(names)
    while left:
        if (name := left.pop()) in seen:
            continue
        seen.add(name)
        found = importlib.metadata.distribution(name)
        for file in found.files or ():
            # Others are programs, or what was made of a source when it was first read.
            if ".." not in file.parts and found.locate_file(file).is_file():  # type: ignore[attr-defined]  # a path
                yield Path(str(file))
        for line in found.requires or ():
            required = Requirement(line)
            if required.marker is None or required.marker.evaluate({"extra": ""}):
                left.append(required.name)
