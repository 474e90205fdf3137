"""The first process of a sandbox, run as its program is: real namespaces, a real kernel."""

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sallyport.net.sandbox_network import SandboxNetwork
from tests.support.gateway_process import ROOT
from tests.support.sandbox_network import sandbox_network
from tests.support.sandbox_stage import open_folder
from worker.sandboxes.cell import EXIT_NOT_BEGUN, Cell, main, read_cell
from worker.sandboxes.confinement import HOME
from worker.sandboxes.local import SHARED

UID = 200_007
SECONDS = 20


@pytest.fixture
def network() -> Iterator[SandboxNetwork]:
    with sandbox_network() as network:
        yield network


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


def cell(folder: Path, *command: str, shared: tuple[str, ...] = SHARED, cwd: str = HOME) -> Cell:
    for name in ("root", "home", "scratch", "trust"):
        (folder / name).mkdir(exist_ok=True)
    os.chown(folder / "home", UID, UID)
    (folder / "scratch").chmod(0o1777)
    return Cell(
        name="sbx_one",
        root=str(folder / "root"),
        home=str(folder / "home"),
        scratch=str(folder / "scratch"),
        trust=str(folder / "trust"),
        shared=shared,
        uid=UID,
        gid=UID,
        command=command,
        environment={"PATH": "/usr/bin:/bin", "ONLY": "this"},
        most_processes=500,
        most_files=100,
        cwd=cwd,
    )


@contextmanager
def started(folder: Path, network: SandboxNetwork, made: Cell) -> Iterator["subprocess.Popen[str]"]:
    (folder / "cell.json").write_text(made.to_json())
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "sallyport_cli.cell", str(folder / "cell.json"), str(network.namespace)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        pass_fds=[network.namespace],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def run(folder: Path, network: SandboxNetwork, made: Cell) -> tuple[int, str]:
    with started(folder, network, made) as process:
        said, _ = process.communicate(timeout=SECONDS)
        return process.returncode, said


def test_a_cell_is_read_as_it_was_written(tmp_path: Path) -> None:
    with open_folder() as folder:
        made = cell(folder, "/bin/true")
        assert read_cell(made.to_json()) == made


def test_the_command_s_exit_code_is_the_sandbox_s(network: SandboxNetwork, folder: Path) -> None:
    assert run(folder, network, cell(folder, "/bin/sh", "-c", "id -u; env | sort; pwd; ulimit -n; exit 3")) == (
        3,
        f"{UID}\nONLY=this\nPATH=/usr/bin:/bin\nPWD={HOME}\n{HOME}\n100\n",
    )
    assert run(folder, network, cell(folder, "/bin/sh", "-c", "kill -9 $$"))[0] == 128 + signal.SIGKILL


def test_what_it_writes_is_its_user_s_and_nothing_else_can_be_written(network: SandboxNetwork, folder: Path) -> None:
    command = "touch kept /tmp/scratch; touch /usr/x /etc/x /x /run/x /dev/x 2>&1 | grep -c 'Read-only\\|denied'"
    assert run(folder, network, cell(folder, "/bin/sh", "-c", command)) == (0, "5\n")
    assert (folder / "home" / "kept").stat().st_uid == UID
    assert (folder / "scratch" / "scratch").exists()
    assert list((folder / "root").iterdir()) == []  # what was there was there in the sandbox alone


def test_the_end_of_the_command_is_the_end_of_all(network: SandboxNetwork, folder: Path) -> None:
    command = "setsid sleep 300 & until pgrep -x sleep > /dev/null; do :; done; pgrep -xc sleep"
    code, said = run(folder, network, cell(folder, "/bin/sh", "-c", command))
    assert (code, said) == (0, "1\n")  # communicate has returned: nobody holds the pipe any more


def test_a_signal_to_the_group_reaches_the_command_and_what_left_the_group(
    network: SandboxNetwork, folder: Path
) -> None:
    trap = "trap 'echo told; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    command = f"setsid sh -c \"trap 'echo apart' TERM; sleep 300\" & {trap}"
    with started(folder, network, cell(folder, "/bin/sh", "-c", command)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGTERM)
        said, _ = process.communicate(timeout=SECONDS)
        assert "told\n" in said
        assert process.returncode == 5


def test_killing_it_kills_all(network: SandboxNetwork, folder: Path) -> None:
    with started(folder, network, cell(folder, "/bin/sh", "-c", "setsid sleep 300 & echo ready; sleep 300")) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.kill()
        assert process.communicate(timeout=SECONDS)[0] == ""  # the end of the pipe: every writer is gone


@pytest.mark.parametrize(
    ("command", "cwd", "said"),
    [
        (("/bin/absent",), HOME, "No such file or directory: /bin/absent"),
        (("/bin/true",), "/absent", "No such file or directory: /absent"),
    ],
)
def test_a_command_that_cannot_begin(
    network: SandboxNetwork, folder: Path, command: tuple[str, ...], cwd: str, said: str
) -> None:
    code, output = run(folder, network, cell(folder, *command, cwd=cwd))
    assert (code, output) == (EXIT_NOT_BEGUN, f"the sandbox cannot begin: {said}\n")


def test_a_root_that_is_not_there(network: SandboxNetwork, folder: Path) -> None:
    made = cell(folder, "/bin/true")
    (folder / "root").rmdir()
    code, said = run(folder, network, made)
    assert code == EXIT_NOT_BEGUN
    assert "the kernel refuses a mount at" in said


@pytest.mark.parametrize("own", ["/tmp/x", "/home/sandbox/x"])
def test_trust_in_the_sandbox_s_own_folders(network: SandboxNetwork, folder: Path, own: str) -> None:
    code, said = run(folder, network, dataclasses.replace(cell(folder, "/bin/true"), trust=own))
    assert (code, said) == (
        125,
        f"the sandbox cannot begin: {own} is below what is the sandbox's own; keep its folder elsewhere\n",
    )


def test_a_deputy_that_ends_is_started_again(network: SandboxNetwork, folder: Path) -> None:
    deputies = "pgrep -f 'sallyport_cli[.]cell'"  # the first process too
    command = f"""
    until [ -e /tmp/.sallyport/setup/environment.sh ]; do sleep 0.05; done
    {deputies} | tr '\\n' ' '
    kill -9 2
    while kill -0 2 2> /dev/null; do sleep 0.05; done
    until [ $({deputies} | wc -l) = 2 ]; do sleep 0.05; done
    kill -ALRM 1; sleep 0.2; {deputies} | wc -l
    kill -9 $({deputies} | tail -1); kill -0 2 2>/dev/null; exit $?
    """
    code, said = run(folder, network, cell(folder, "/bin/sh", "-c", command))
    assert (code, said) == (1, "1 2 2\n")


def test_a_deputy_is_of_the_sandbox_and_has_its_variables(network: SandboxNetwork, folder: Path) -> None:
    command = "until [ -e ~/.sallyport/setup/environment.sh ]; do sleep 0.05; done; stat -c %u ~/.sallyport"
    made = dataclasses.replace(
        cell(folder, "/bin/sh", "-c", command), environment={"PATH": "/usr/bin:/bin", "HOME": HOME}
    )
    assert run(folder, network, made) == (0, f"{UID}\n")


def test_a_network_that_is_none(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "cell.json").write_text(cell(folder, "/bin/true").to_json())
    # In a process of its own: it would change the namespaces of this one.
    program = f"import worker.sandboxes.cell as c; raise SystemExit(c.main([{str(folder / 'cell.json')!r}, '0'], None))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == EXIT_NOT_BEGUN
    assert "the sandbox cannot begin" in capfd.readouterr().err
    assert callable(main)
