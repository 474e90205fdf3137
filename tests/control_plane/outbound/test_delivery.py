"""One attempt, to a real server."""

from collections.abc import AsyncIterator
from ipaddress import ip_network

import pytest

from control_plane.outbound.checked_session import CheckedSession
from control_plane.outbound.delivery import Message, Outcome, attempt
from sallyport.address_policy import AddressPolicy
from sallyport.net.dial import Dialer
from sallyport.net.resolve import Resolver
from sallyport.net.tls import client_context
from tests.support.subscriber import Subscriber

HEADERS = {"webhook-id": "evt_1", "webhook-timestamp": "1", "webhook-signature": "v1,x"}


@pytest.fixture
async def session(subscriber: Subscriber) -> AsyncIterator[CheckedSession]:
    policy = AddressPolicy(allow=(ip_network("127.0.0.0/8"),))
    opened = CheckedSession(Dialer(policy, Resolver()), client_context(str(subscriber.ca_file)))
    yield opened
    await opened.close()


@pytest.mark.parametrize(
    ("status", "headers", "outcome", "delivered", "gone"),
    [
        (200, {}, Outcome(200), True, False),
        (299, {}, Outcome(299), True, False),
        (
            301,
            {"Location": "/x"},
            Outcome(301, "the subscriber answered 301, and redirects are not followed"),
            False,
            False,
        ),
        (400, {}, Outcome(400, "the subscriber answered 400"), False, False),
        (410, {}, Outcome(410, "the subscriber answered 410"), False, True),
        (503, {"Retry-After": "7"}, Outcome(503, "the subscriber answered 503", 7), False, False),
    ],
)
async def test_only_2xx_is_yes(
    session: CheckedSession,
    subscriber: Subscriber,
    status: int,
    headers: dict[str, str],
    outcome: Outcome,
    delivered: bool,
    gone: bool,
) -> None:
    subscriber.answers.append((status, headers))
    message = Message(subscriber.url(), b'{"type":"message"}', HEADERS)
    found = await attempt(session, message, 5.0)
    assert (found, found.is_delivered, found.is_gone) == (outcome, delivered, gone)
    [told] = subscriber.told
    assert (told.id, told.signature, told.body) == ("evt_1", "v1,x", message.body)


async def test_no_answer(session: CheckedSession, subscriber: Subscriber) -> None:
    with subscriber.held():
        slow = await attempt(session, Message(subscriber.url(), b"", HEADERS), 0.05)
    assert slow == Outcome(None, "the subscriber did not answer in time")
    again = await attempt(session, Message(subscriber.url(), b"", HEADERS), 5.0)
    assert again.is_delivered
    inwards = Message("https://169.254.169.254/latest", b"", HEADERS)
    refused = await attempt(session, inwards, 5.0)
    assert refused == Outcome(None, "the subscriber cannot be reached: address_refused")
    assert not refused.is_delivered
