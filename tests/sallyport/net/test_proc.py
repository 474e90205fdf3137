"""What /proc says, by processes of our own."""

import os
import subprocess
from pathlib import Path

from sallyport.net.proc import environment_has, environment_value, is_group_alive, pids, stat_of


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
