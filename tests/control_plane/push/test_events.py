from typing import get_args

from control_client.feed_state import CONFIG_CHANGED as RECEIVERS
from control_plane.api.push_subscribers import Event
from control_plane.push.events import CONFIG_CHANGED, EVENTS


def test_the_api_and_the_receiver_know_the_same_words() -> None:
    assert get_args(Event) == EVENTS
    assert CONFIG_CHANGED == RECEIVERS
