"""What shuts a process in, seen from inside of a sandbox; tests/flow/test_ways_out.py tries to get out."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sallyport.net.sandbox_network import SandboxNetwork
from tests.support.sandbox_network import sandbox_network
from tests.support.sandbox_stage import open_folder
from tests.worker.sandboxes.test_cell import cell, run
from worker.sandboxes.confinement import RESOLVER
from worker.sandboxes.local import SHARED


@pytest.fixture
def network() -> Iterator[SandboxNetwork]:
    with sandbox_network() as network:
        yield network


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


def said(folder: Path, network: SandboxNetwork, command: str, *shared: str) -> str:
    code, output = run(folder, network, cell(folder, "/bin/sh", "-c", command, shared=(*SHARED, *shared)))
    assert code == 0, output
    return output


def test_the_root_has_what_it_was_given(network: SandboxNetwork, folder: Path) -> None:
    (folder / "more").mkdir()
    (folder / "more" / "file").write_text("shown\n")
    (folder / "link").symlink_to(folder / "more")
    shared = [str(folder / name) for name in ("more", "link", "absent")]
    assert said(folder, network, f"cat {folder}/link/file; ls {folder}", *shared) == "shown\nlink\nmore\ntrust\n"


def test_trust_is_at_its_own_path(network: SandboxNetwork, folder: Path) -> None:
    (folder / "trust").mkdir()
    (folder / "trust" / "ca.pem").write_text("trust me\n")
    assert said(folder, network, f"cat {folder}/trust/ca.pem") == "trust me\n"


def test_names_are_asked_of_loopback(network: SandboxNetwork, folder: Path) -> None:
    if Path("/etc/resolv.conf").exists():
        assert said(folder, network, "cat /etc/resolv.conf") == RESOLVER


def test_devices_work_and_no_other_is_there(network: SandboxNetwork, folder: Path) -> None:
    command = "head -c 8 /dev/urandom | wc -c; echo x > /dev/null; echo y > /dev/shm/y; ls /dev | tr '\\n' ' '"
    names = "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero"
    assert said(folder, network, command) == f"8\n{names} "


def test_a_terminal_can_be_opened(network: SandboxNetwork, folder: Path) -> None:
    command = "python3 -c 'import os; print(os.ttyname(os.openpty()[1]))' 2>&1 || script -qc 'tty' /dev/null"
    assert "/dev/pts/" in said(folder, network, command)


def test_only_its_own_processes_are_seen(network: SandboxNetwork, folder: Path) -> None:
    # The first one, the deputy, and the shell that lists them without starting another.
    assert said(folder, network, "cd /proc && echo [0-9]*") == "1 2 3\n"
