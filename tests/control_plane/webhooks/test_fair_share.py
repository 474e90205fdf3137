from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from control_plane.webhooks.fair_share import (
    MOST,
    MOST_OF_ORGANIZATION,
    MOST_OF_SUBSCRIPTION,
    Place,
    Waiting,
    share,
)


def test_a_subscriber_with_much_leaves_room_for_one_with_little() -> None:
    waiting = [Waiting("org_1", "whs_much", 1_000), Waiting("org_2", "whs_little", 1)]
    assert share(waiting, []) == {"whs_much": MOST_OF_SUBSCRIPTION, "whs_little": 1}


def test_an_organization_with_many_subscribers_leaves_room_for_others() -> None:
    waiting = [Waiting("org_1", f"whs_{number}", 9) for number in range(30)] + [Waiting("org_2", "whs_x", 9)]
    given = share(waiting, [])
    assert sum(given.values()) == MOST_OF_ORGANIZATION + MOST_OF_SUBSCRIPTION
    assert given["whs_x"] == MOST_OF_SUBSCRIPTION


def test_places_that_are_taken_count() -> None:
    taken = [Place("org_1", "whs_1")] * MOST_OF_SUBSCRIPTION
    assert share([Waiting("org_1", "whs_1", 5)], taken) == {}
    assert share([Waiting("org_1", "whs_1", 5)], taken[1:]) == {"whs_1": 1}
    full = [Place(f"org_{number}", f"whs_{number}") for number in range(MOST)]
    assert share([Waiting("org", "whs", 5)], full) == {}


WAITING = st.builds(
    lambda subscription, due: Waiting(f"org_{subscription % 3}", f"whs_{subscription}", due),
    st.integers(0, 20),
    st.integers(1, 10),
)
PLACES = st.lists(
    st.builds(lambda number: Place(f"org_{number % 3}", f"whs_{number}"), st.integers(0, 20)), max_size=MOST
)


@given(st.lists(WAITING, unique_by=lambda each: each.subscription_id), PLACES)
def test_no_bound_is_passed(waiting: list[Waiting], taken: list[Place]) -> None:
    given = share(waiting, taken)
    of = {each.subscription_id: each for each in waiting}
    assert sum(given.values()) + len(taken) <= MOST
    organizations = Counter(place.organization_id for place in taken)
    subscriptions = Counter(place.subscription_id for place in taken)
    for subscription_id, count in given.items():
        assert 0 < count <= of[subscription_id].due
        assert subscriptions[subscription_id] + count <= MOST_OF_SUBSCRIPTION
        organizations[of[subscription_id].organization_id] += count
        assert organizations[of[subscription_id].organization_id] <= MOST_OF_ORGANIZATION
