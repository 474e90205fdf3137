"""What a killed daemon left, played by processes with the mark."""

import os
import subprocess
import sys
import uuid
from collections.abc import Mapping

from sallyport.net.orphans import end_marked, end_orphans, find_marked
from sallyport.net.proc import environment_has
from tests.support.setup_documents import is_alive
from tests.support.until import until

MARK = "SALLYPORT_TEST_MARK"


def stay(environment: Mapping[str, str], *, leaves_its_group: bool = False) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "60"], env=environment, start_new_session=leaves_its_group)


async def test_only_what_carries_the_mark_ends() -> None:
    mark = uuid.uuid4().hex
    environment = {"PATH": os.defpath}
    marked = [stay({**environment, MARK: mark}), stay({**environment, MARK: mark}, leaves_its_group=True)]
    other = stay({**environment, MARK: mark + "x"})
    try:
        # A program that has just been started has no environment to read for a moment.
        await until(lambda: all(environment_has(child.pid, f"{MARK}={mark}".encode()) for child in marked))
        assert end_orphans(MARK, mark) == 2
        assert [child.wait(5) for child in marked] == [-9, -9]
        assert is_alive(other.pid)
        assert end_orphans(MARK, mark) == 0
    finally:
        for child in (*marked, other):
            child.kill()
            child.wait()


def test_whoever_started_us_is_spared() -> None:
    mark = uuid.uuid4().hex
    script = f"import os\nfrom sallyport.net.orphans import end_orphans\nos._exit(end_orphans({MARK!r}, {mark!r}))"
    # A shell with the mark starts, as its child and not in its place, what looks for the mark.
    command = ["sh", "-c", '"$0" -c "$1"; echo "ended $?"', sys.executable, script]
    ran = subprocess.run(command, env={"PATH": os.environ["PATH"], MARK: mark}, capture_output=True, check=True)
    assert ran.stdout == b"ended 0\n", ran.stderr


async def test_what_carries_a_mark_is_found_by_what_that_begins_with_and_ended_by_itself() -> None:
    prefix = uuid.uuid4().hex
    children = [stay({"PATH": os.defpath, MARK: f"{prefix}.{name}"}) for name in ("one", "two")]
    one, two = (child.pid for child in children)
    try:
        await until(lambda: len(find_marked(MARK, f"{prefix}.")) == 2)
        assert find_marked(MARK, f"{prefix}.") == {f"{prefix}.one": [one], f"{prefix}.two": [two]}
        # A number that is another process's by now is not ended.
        assert end_marked(MARK, f"{prefix}.one", [one, two]) == 1
        assert children[0].wait(5) == -9
        assert is_alive(two)
    finally:
        for child in children:
            child.kill()
            child.wait()
