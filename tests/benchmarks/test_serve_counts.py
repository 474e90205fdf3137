"""What one small exchange costs, in counts: who makes it dearer sees it here, whatever else the machine does.

Bytecodes are counted, so time, load and hash seeds move nothing; only another interpreter or another path through the
code does. The band: 3 % above what is written down is about what one check more per request costs, and is to be
accounted for in the commit that does it; below it, whoever made it cheaper writes the new figure here.
"""

import re
import subprocess
import sys

import pytest

from benchmarks.serve_counts import bench, count_bytecodes
from benchmarks.workloads.small_get import WORKLOAD
from gateway.build import codec_kind
from tests.support.gateway_process import ROOT

pure_alone = pytest.mark.skipif(codec_kind() != "pure", reason="compiled code has no bytecodes")
pytestmark = pytest.mark.uvloop

BAND = 0.03


def counted(*arguments: str) -> dict[str, int]:
    """Count in a process of its own: what others have taught the tables of this one counts too."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.serve_counts", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )
    return {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", done.stdout.splitlines()[-1])}


@pure_alone
@pytest.mark.parametrize(
    ("arguments", "bytecodes"),
    [((), 2_079), (("--varied",), 2_526), (("--tls",), 2_538)],
    ids=["alike", "varied", "by TLS"],
)
def test_an_exchange_costs_no_more(arguments: tuple[str, ...], bytecodes: int) -> None:
    counts = counted(*arguments)
    assert bytecodes * (1 - BAND) <= counts["bytecodes"] <= bytecodes * (1 + BAND)
    if not arguments:  # paths that are all others are remembered, up to a bound
        # One head read, one written, their fields, one exchange and its record; the answer is the smaller half.
        assert counts["peak_bytes"] <= 3_500
        assert counts["kept_blocks"] == 0


def test_what_is_counted_is_what_is_done_in_this_thread() -> None:
    def act() -> None:
        for _ in range(10):
            pass

    def act_twice() -> None:
        act()
        act()

    nothing, once, twice = (count_bytecodes(each) for each in (lambda: None, act, act_twice))
    assert once - nothing > 20
    assert twice - once > 20


async def test_an_exchange_that_goes_wrong_is_not_counted() -> None:
    async with bench(WORKLOAD) as made:
        request, answer = made.exchanges(1)[0]
        with pytest.raises(RuntimeError, match="403"):
            made.carry([(request.replace(b"/v1/", b"/v2/"), answer)])
