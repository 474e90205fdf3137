"""The load of the rows with idle tunnels: opens many, looks at the gateway's memory, uses each once, looks again."""

import ssl
from contextlib import ExitStack
from dataclasses import dataclass
from time import perf_counter, sleep

from benchmarks.accounting import resident_mib
from benchmarks.answers import LoadError
from benchmarks.load import REST_SECONDS, Tally
from benchmarks.pace import Pace, Watch, obey
from benchmarks.tunnel_load import TunnelOrder, TunnelWays

# Opened before memory is looked at first: what the first ones make the gateway load stays for all.
_WARM = 16
_ANSWER_SECONDS = 20.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleOrder:
    """What to measure: a tunnel for each of `tokens`, by TLS where there is `ca_file`. `session` is the gateway's.

    `request` is Latin-1 text of raw bytes, asked for once on a stream of each tunnel that is CONNECTed to `authority`.
    """

    port: int
    host: str
    ca_file: str
    tokens: list[str]
    authority: str
    declared: str
    request: str
    answer_bytes: int
    session: int
    core: int


def carry_out(document: dict[str, object]) -> Tally:
    """Measure as ordered; raises LoadError or OSError."""
    order = IdleOrder(**document)  # type: ignore[arg-type]  # asdict() of one
    context = ssl.create_default_context(cafile=order.ca_file) if order.ca_file else None
    counted = len(order.tokens) - _WARM
    if counted < 1:
        raise LoadError(f"more than {_WARM} tunnels are needed")
    pace = Pace(
        sessions=[order.session], core=order.core, warm_seconds=0.0, closed_seconds=0.0, open_seconds=0.0, open_rate=1.0
    )
    tally = Tally()
    with ExitStack() as kept:
        orders = [_order_of_one(order, token, pace) for token in order.tokens]
        tunnels = [_open(kept, each, context, order.host) for each in orders[:_WARM]]
        sleep(REST_SECONDS)
        before = resident_mib(order.session)
        watch = Watch(pace)
        tunnels += [_open(kept, each, context, order.host) for each in orders[_WARM:]]
        watch.stop(tally)
        tally.answered = counted
        sleep(REST_SECONDS)
        tally.kib_unused = (resident_mib(order.session) - before) * 1024 / counted
        for tunnel, each in zip(tunnels, orders, strict=True):
            tally.latencies_us.append(_use(tunnel, each))
        sleep(REST_SECONDS)
        tally.kib_after_burst = (resident_mib(order.session) - before) * 1024 / counted
    return tally


def _order_of_one(order: IdleOrder, token: str, pace: Pace) -> TunnelOrder:
    return TunnelOrder(
        port=order.port,
        token=token,
        authority=order.authority,
        declared=order.declared,
        streams=1,
        request=order.request,
        answer_bytes=order.answer_bytes,
        has_ticks=False,
        beside=None,
        pace=pace,
    )


def _open(kept: ExitStack, order: TunnelOrder, context: ssl.SSLContext | None, host: str) -> TunnelWays:
    tunnel = TunnelWays(order, context, host)
    kept.callback(tunnel.close)
    return tunnel


def _use(tunnel: TunnelWays, order: TunnelOrder) -> float:
    """Open a stream, ask once, read the whole answer, end the stream; return how long that took, in µs."""
    began_at = perf_counter()
    tunnel.connect(order)
    tunnel.send(0)
    tunnel.flush()
    while not tunnel.poll(_POLL_SECONDS):
        tunnel.flush()
        if perf_counter() > began_at + _ANSWER_SECONDS:
            raise LoadError("a request got no answer")
    took = (perf_counter() - began_at) * 1e6
    tunnel.reset(0)
    return took


if __name__ == "__main__":
    obey(carry_out)
