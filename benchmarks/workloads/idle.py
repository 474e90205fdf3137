"""Many tunnels that do nothing, before and after each has carried something: what they cost in memory."""

from dataclasses import replace

from benchmarks.workloads.get_1m import WORKLOAD as GET_1M
from benchmarks.workloads.workload import Way, Workload


def _idle(name: str, *, is_secure: bool) -> Workload:
    return replace(
        GET_1M,
        name=f"idle_{name}",
        title=f"memory of an idle {name} tunnel",
        path=f"/v1/files/idle-{name}/content",
        way=Way.IDLE,
        links=500,
        bulk=False,
        is_secure=is_secure,
    )


IDLE_WS, IDLE_WSS = _idle("ws", is_secure=False), _idle("wss", is_secure=True)
