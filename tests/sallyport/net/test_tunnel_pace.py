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
    TunnelPace,
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
