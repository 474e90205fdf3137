"""Whose deliveries are next: round by round, so that no subscriber and no organization fills every place. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

# Deliveries of one replica at once. A subscriber that hangs holds its places for a timeout each time.
MOST: Final = 64
MOST_OF_ORGANIZATION: Final = 16
MOST_OF_SUBSCRIPTION: Final = 4


class Waiting(NamedTuple):
    """How many deliveries to a subscriber are due."""

    organization_id: str
    subscription_id: str
    due: int


class Place(NamedTuple):
    """One delivery that is under way."""

    organization_id: str
    subscription_id: str


def share(waiting: Sequence[Waiting], taken: Iterable[Place]) -> dict[str, int]:
    """Return how many deliveries of each subscription begin now. Who comes first in `waiting` is served first."""
    places = list(taken)
    free = MOST - len(places)
    of_organization = Counter(place.organization_id for place in places)
    of_subscription = Counter(place.subscription_id for place in places)
    given: Counter[str] = Counter()
    for _ in range(MOST_OF_SUBSCRIPTION):
        for organization_id, subscription_id, due in waiting:
            fits = (
                free > 0
                and given[subscription_id] < due
                and of_subscription[subscription_id] < MOST_OF_SUBSCRIPTION
                and of_organization[organization_id] < MOST_OF_ORGANIZATION
            )
            if fits:
                free -= 1
                given[subscription_id] += 1
                of_subscription[subscription_id] += 1
                of_organization[organization_id] += 1
    return {subscription_id: count for subscription_id, count in given.items() if count}
