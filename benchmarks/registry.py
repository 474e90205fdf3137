"""Every subject by name."""

from benchmarks.own import SallyportPure
from benchmarks.peers.envoy import Envoy
from benchmarks.peers.mitmproxy import Mitmproxy
from benchmarks.peers.nginx import Nginx
from benchmarks.subject import Subject

# The load talks to the origin itself: what is left of a latency when the proxy is taken away.
DIRECT = "direct"
# Two processes that pass bytes on and understand nothing: what the whole chain is held against.
TWO_RELAYS = "two-relays"

SUBJECTS: dict[str, Subject] = {subject.name: subject for subject in (SallyportPure(), Nginx(), Envoy(), Mitmproxy())}

# Named in the targets, and not there yet: asking for one says so.
PLANNED = {"sallyport": "the compiled codec is not built yet; `sallyport-pure` is the gateway as it stands"}

DEFAULT = (*SUBJECTS, DIRECT, TWO_RELAYS)
KNOWN = (*DEFAULT, *PLANNED)
