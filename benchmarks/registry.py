"""Every subject by name."""

from benchmarks.own import TWO_WORKERS, UNSCRUBBED, SallyportCompiled, SallyportPure
from benchmarks.peers.aiohttp import Aiohttp
from benchmarks.peers.envoy import Envoy
from benchmarks.peers.go import Goproxy, GoStandard
from benchmarks.peers.haproxy import HAProxy
from benchmarks.peers.mitmproxy import Mitmproxy
from benchmarks.peers.nginx import Nginx
from benchmarks.peers.node import NodeHttpProxy
from benchmarks.peers.squid import Squid
from benchmarks.subject import Subject

# The load talks to the origin itself: what is left of a latency when the proxy is taken away.
DIRECT = "direct"
# Two processes that pass bytes on and understand nothing: what the whole chain is held against.
TWO_RELAYS = "two-relays"

_ALL: tuple[Subject, ...] = (
    SallyportCompiled(),
    SallyportPure(),
    SallyportCompiled(UNSCRUBBED),
    SallyportPure(UNSCRUBBED),
    SallyportCompiled(TWO_WORKERS),
    SallyportPure(TWO_WORKERS),
    Nginx(),
    HAProxy(),
    Envoy(),
    GoStandard(),
    Goproxy(),
    Squid(),
    NodeHttpProxy(),
    Aiohttp(),
    Mitmproxy(),
)
SUBJECTS: dict[str, Subject] = {subject.name: subject for subject in _ALL}

DEFAULT = (*SUBJECTS, DIRECT, TWO_RELAYS)

# Whom --quick measures unless it is told: more would not fit into two minutes.
QUICK = ("sallyport", "sallyport-pure", "nginx", "envoy", "mitmproxy", DIRECT, TWO_RELAYS)

# Who is there for some workloads alone; all others take part wherever they have a way.
ONLY_IN: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("sallyport-unscrubbed", "sallyport-pure-unscrubbed"), ("get_1m",)),
    **dict.fromkeys(("sallyport-2", "sallyport-pure-2"), ("small_get", "small_get_1")),
    TWO_RELAYS: ("chain_400",),
}


def takes_part(subject: str, workload: str) -> bool:
    """Say whether a subject is there for a workload at all."""
    return workload in ONLY_IN.get(subject, (workload,))
