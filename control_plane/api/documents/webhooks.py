"""Webhook endpoints, events, subscriptions and deliveries."""

from typing import Literal

from sallyport.plan.fields import Model


class WebhookEndpointShown(Model):
    """A URL that a provider sends events to."""

    endpoint_key: str
    url: str
    target_key: str
    connection_id: str | None = None
    describe: str | None = None
    event_types: list[str] | None = None
    created_at: int


class WebhookEventShown(Model):
    """An event that was taken in, without what its provider wrote."""

    event_id: str
    organization_id: str
    target_key: str
    connection_id: str
    type: str
    state: Literal["pending", "processed"]
    received_at: int


class WebhookSubscriptionShown(Model):
    """Who is told of events; `secret` only where it is a new one."""

    subscription_id: str
    sandbox_profile_id: str
    organization_id: str
    url: str
    event_types: list[str]
    enabled: bool
    secret: str | None = None
    created_at: int
    updated_at: int


class WebhookDeliveryShown(Model):
    """What became of one event at one subscriber."""

    event_id: str
    state: Literal["pending", "delivered", "failed"]
    attempts: int
    last_status: int | None = None
    last_error: str | None = None
    next_attempt_at: int | None = None
    given_up_at: int | None = None
    updated_at: int


class WebhookTaken(Model):
    """What became of an event; a provider's challenge is answered in its own form instead."""

    status: str
