"""What /proc says, by processes of our own."""

import os
import subprocess
import sys
from pathlib import Path

from sallyport.net.proc import environment_has, environment_value, is_group_alive, pids, stat_of
from tests.support.busy_run import read_memory


def test_ourselves() -> None:
    stat = stat_of(os.getpid())
    assert stat is not None
    assert (stat.parent, stat.group) == (os.getppid(), os.getpgrp())
    assert os.getpid() in set(pids())


def test_a_name_that_looks_like_fields() -> None:
    script = "printf ') Z 1 (1' > /proc/self/comm; read line"
    with subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, env={"A": "b=c"}) as child:
        while "Z" not in Path(f"/proc/{child.pid}/comm").read_text():
            pass
        stat = stat_of(child.pid)
        assert stat is not None
        assert (stat.parent, stat.state in "RS") == (os.getpid(), True)
        assert environment_has(child.pid, b"A=b=c")
        assert not environment_has(child.pid, b"A=b")
        assert (environment_value(child.pid, "A"), environment_value(child.pid, "B")) == ("b=c", None)
        child.kill()


def test_a_group_that_nobody_waited_for_is_not_alive() -> None:
    child = subprocess.Popen(["sleep", "60"], start_new_session=True)
    assert is_group_alive(child.pid)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    os.killpg(child.pid, 0)  # the kernel still knows it
    assert not is_group_alive(child.pid)
    child.wait()
    assert stat_of(child.pid) is None
    assert not environment_has(child.pid, b"")
    assert environment_value(child.pid, "A") is None


def test_a_long_environment_is_read_to_its_end() -> None:
    long = {f"V{number}": "x" * 60_000 for number in range(5)}
    with subprocess.Popen(["sleep", "60"], env=long | {"LAST": "y"}) as child:
        try:
            await_environment(child.pid)
            assert environment_value(child.pid, "LAST") == "y"
            assert environment_has(child.pid, b"V4=" + b"x" * 60_000)
            assert not environment_has(child.pid, b"V4=" + b"x" * 59_999)
        finally:
            child.kill()


def await_environment(pid: int) -> None:
    """Wait until a process that was just started has one: it is told of before the kernel has set that up."""
    while not Path(f"/proc/{pid}/environ").read_bytes():
        pass


# Looks twice for what is not there, says so, and waits to be looked at.
LOOKS = """
import sys
from sallyport.net.proc import environment_has, environment_value
print(environment_value(int(sys.argv[1]), "MARK"), environment_has(int(sys.argv[1]), b"MARK=1"), flush=True)
sys.stdin.read()
"""


def test_c14_what_others_were_started_with_does_not_stay_in_memory() -> None:
    secret = "environment-canary-" + os.urandom(8).hex()
    with subprocess.Popen(["sleep", "60"], env={"KEY": secret, "PADDING": "x" * 40_000}) as other:
        await_environment(other.pid)
        command = [sys.executable, "-c", LOOKS, str(other.pid)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as looking:
            assert looking.stdout is not None
            assert looking.stdout.readline() == b"None False\n"
            memory = read_memory(looking.pid)
            looking.kill()
        other.kill()
    assert b"MARK=1" in memory  # it is its memory that was read
    assert secret.encode() not in memory
