"""One attempt, to a real server."""

import pytest

from control_plane.webhooks.delivery import Message, Outcome, attempt
from control_plane.webhooks.signing import new_secret, shown_once
from tests.support.control_plane import NOW
from tests.support.subscriber import Subscriber
from tests.support.webhook_stage import WebhookStage

SQLITE = pytest.mark.parametrize("url", ["sqlite"], indirect=True)


@SQLITE
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
    hooks: WebhookStage, status: int, headers: dict[str, str], outcome: Outcome, delivered: bool, gone: bool
) -> None:
    hooks.subscriber.answers.append((status, headers))
    secret = new_secret()
    message = Message("evt_1", hooks.subscriber.url(), b'{"type":"message"}')
    found = await attempt(hooks.session, message, secret, NOW, 5.0)
    assert (found, found.is_delivered, found.is_gone) == (outcome, delivered, gone)
    [told] = hooks.subscriber.told
    assert (told.id, told.body) == ("evt_1", message.body)
    assert told.is_signed_with(shown_once(secret))


@SQLITE
async def test_no_answer(hooks: WebhookStage, subscriber: Subscriber) -> None:
    secret = new_secret()
    with subscriber.held():
        slow = await attempt(hooks.session, Message("evt_1", subscriber.url(), b""), secret, NOW, 0.05)
    assert slow == Outcome(None, "the subscriber did not answer in time")
    again = await attempt(hooks.session, Message("evt_1", subscriber.url(), b""), secret, NOW, 5.0)
    assert again.is_delivered
    inwards = Message("evt_1", "https://169.254.169.254/latest", b"")
    refused = await attempt(hooks.session, inwards, secret, NOW, 5.0)
    assert refused == Outcome(None, "the subscriber cannot be reached: address_refused")
    assert not refused.is_delivered
