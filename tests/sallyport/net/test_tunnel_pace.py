from collections.abc import Callable

import pytest

from sallyport.net.tunnel_pace import (
    CONTROLS_BURST,
    CONTROLS_PER_SECOND,
    EMPTY_BURST,
    EMPTY_PER_SECOND,
    PINGS_BURST,
    PINGS_PER_SECOND,
    RESETS_BURST,
    RESETS_PER_SECOND,
    WHOLE_AFTER_SECONDS,
    TunnelPace,
    TunnelPaces,
)
from sallyport.wire.errors import RemoteProtocolError


@pytest.mark.parametrize(
    ("take", "burst", "per_second", "told"),
    [
        (TunnelPace.reset, RESETS_BURST, RESETS_PER_SECOND, "resets"),
        (TunnelPace.ping, PINGS_BURST, PINGS_PER_SECOND, "pings"),
        (TunnelPace.control, CONTROLS_BURST, CONTROLS_PER_SECOND, "control messages"),
        (TunnelPace.empty_frame, EMPTY_BURST, EMPTY_PER_SECOND, "without a meaning"),
    ],
)
def test_a_burst_passes_and_then_a_rate(
    take: Callable[[TunnelPace, float], None], burst: int, per_second: int, told: str
) -> None:
    pace = TunnelPace()
    for _ in range(burst):
        take(pace, 0.0)
    for _ in range(per_second):
        take(pace, 1.0)
    with pytest.raises(RemoteProtocolError, match=told):
        take(pace, 1.0)
    assert repr(pace).startswith("<TunnelPace ")


def test_a_pace_is_whole_again_when_it_is_forgotten() -> None:
    rates = {
        RESETS_BURST: RESETS_PER_SECOND,
        CONTROLS_BURST: CONTROLS_PER_SECOND,
        PINGS_BURST: PINGS_PER_SECOND,
        EMPTY_BURST: EMPTY_PER_SECOND,
    }
    assert max(burst / per_second for burst, per_second in rates.items()) == WHOLE_AFTER_SECONDS


def test_an_owner_s_pace_outlives_its_tunnels_and_is_nobody_else_s() -> None:
    paces: TunnelPaces[str] = TunnelPaces()
    one = paces.enter("sbx_one", 0.0)
    assert paces.enter("sbx_one", 0.0) is one, "of two tunnels at once"
    paces.leave("sbx_one", 100.0)
    assert paces.enter("sbx_two", 200.0) is not one
    paces.leave("sbx_one", 200.0)
    assert paces.enter("sbx_one", 200.0 + WHOLE_AFTER_SECONDS - 1) is one
    assert repr(paces) == "<TunnelPaces of 2, 0 without a tunnel>"


def test_a_pace_that_is_whole_again_is_forgotten() -> None:
    paces: TunnelPaces[str] = TunnelPaces()
    one = paces.enter("sbx_one", 0.0)
    paces.enter("sbx_two", 0.0)
    for at, owner in enumerate(("sbx_one", "sbx_two")):
        paces.leave(owner, float(at))
    assert repr(paces) == "<TunnelPaces of 2, 2 without a tunnel>"
    paces.enter("sbx_three", WHOLE_AFTER_SECONDS)
    assert repr(paces) == "<TunnelPaces of 2, 1 without a tunnel>"
    assert paces.enter("sbx_one", WHOLE_AFTER_SECONDS) is not one
