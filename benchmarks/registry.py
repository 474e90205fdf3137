"""Every subject by name."""

from benchmarks.own import SallyportCompiled, SallyportPure
from benchmarks.peers.envoy import Envoy
from benchmarks.peers.mitmproxy import Mitmproxy
from benchmarks.peers.nginx import Nginx
from benchmarks.subject import Subject

# The load talks to the origin itself: what is left of a latency when the proxy is taken away.
DIRECT = "direct"
# Two processes that pass bytes on and understand nothing: what the whole chain is held against.
TWO_RELAYS = "two-relays"

SUBJECTS: dict[str, Subject] = {
    subject.name: subject for subject in (SallyportCompiled(), SallyportPure(), Nginx(), Envoy(), Mitmproxy())
}

DEFAULT = (*SUBJECTS, DIRECT, TWO_RELAYS)
