"""Providers that send events, and everything that takes them further."""

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from ipaddress import ip_network
from typing import Any, Final, Literal

import orjson
from sqlalchemy import delete, select

from control_plane.connections import credential_place
from control_plane.definitions.catalog import CATALOG
from control_plane.definitions.contract import (
    AnyDefinition,
    Compiled,
    Connection,
    ConnectionMethod,
    IntegrationDefinition,
    Kind,
    MethodKind,
    Nothing,
    Verification,
    WebhookEvent,
    WebhookHandler,
    WebhookRefused,
    WebhookRequest,
    WebhookResponse,
    WebhookSource,
)
from control_plane.definitions.fields import SecretText
from control_plane.definitions.registry import Registry
from control_plane.foundation import Foundation
from control_plane.offered import target_secret_place
from control_plane.outbound.checked_session import CheckedSession
from control_plane.store.models import (
    Binding,
    Credential,
    Profile,
    ProfileVersion,
    Sandbox,
    Target,
    TargetSecret,
    WebhookDelivery,
)
from control_plane.store.models import Connection as ConnectionRow
from control_plane.store.models import WebhookEvent as EventRow
from control_plane.webhooks.endpoints import WebhookEndpoints
from control_plane.webhooks.ingest import Ingest
from control_plane.webhooks.outbox import Outbox
from control_plane.webhooks.subscriptions import WebhookSubscriptions
from sallyport.address_policy import AddressPolicy
from sallyport.net.dial import Dialer
from sallyport.net.resolve import Resolver
from sallyport.net.tls import client_context
from sallyport.plan.fields import Model, Text
from sallyport.secret import Secret
from tests.support.control_plane import CONNECTION, NOW, ORGANIZATION
from tests.support.subscriber import Subscriber
from tests.support.until import until
from tests.support.webhook_signatures import SIGNING, signed

PUBLIC_URL: Final = "https://sallyport.test"
PROFILE: Final = "sbp_one"
WORKSPACE: Final = "wsp_1"
DAY: Final = 86_400.0


# --- providers --------------------------------------------------------------------------------------------------------


class ChatSecrets(Model):
    """What the operator's App signs with."""

    webhook_secret: SecretText | None = None


class ChatConfig(Model):
    """The workspace of a connection."""

    workspace: Text | None = None


def read_chat(request: WebhookRequest) -> WebhookResponse | WebhookEvent:
    """An event of a chat: `{"id", "type", "workspace"}`; a `challenge` is echoed, an open one without a proof."""
    try:
        document = orjson.loads(request.body)
    except orjson.JSONDecodeError:
        raise WebhookRefused("the body is not JSON") from None
    if not isinstance(document, dict):
        raise WebhookRefused("an object is expected")
    if "challenge" in document:
        echo = orjson.dumps({"challenge": str(document["challenge"])})
        return WebhookResponse(status=200, body=echo, needs_verification=document.get("open") is not True)
    return WebhookEvent(
        external_id=str(document.get("id", "")),
        type=str(document.get("type", "")),
        payload=document,
        occurred_at=document["at"] if type(document.get("at")) is int else None,
        subject={"workspace": str(document.get("workspace", ""))},
    )


def _is_of_workspace(event: WebhookEvent, connection: Connection[ChatConfig]) -> bool:
    return connection.config.workspace == event.subject["workspace"]


def chat(
    verification: Verification,
    ownership: Literal["target", "connection"] = "target",
    routing: Literal["path", "payload"] = "payload",
    max_age: int | None = None,
) -> AnyDefinition:
    """Return the definition of a chat that signs in one way."""
    return IntegrationDefinition(
        family_id="chat",
        variant_id="chat-default",
        kind=Kind.CONNECTOR,
        display_name="Chat",
        description="Messages.",
        logo_key="chat",
        target_config=Nothing,
        target_secrets=ChatSecrets,
        connection_config=ChatConfig,
        binding_config=Nothing,
        connection_methods=[ConnectionMethod(kind=MethodKind.API_KEY, label="Key", secret_type="api_key")],
        compile_binding=lambda context: Compiled(),
        webhook_handler=WebhookHandler(
            resolve_webhook_request=read_chat,
            verification=verification,
            resolve_connection=_is_of_workspace,
            max_age=max_age,
        ),
        webhook_source=WebhookSource(
            ownership=ownership,
            routing=routing,
            registration="implicit",
            event_types=("message",),
            describe="Enter this URL.",
        ),
    )


def event_body(external_id: str = "ext_1", **members: object) -> bytes:
    """Return an event of the chat."""
    return json.dumps({"id": external_id, "type": "message", "workspace": WORKSPACE, "text": "hi"} | members).encode()


def request(body: bytes, headers: Mapping[str, str]) -> WebhookRequest:
    """Return a request as the API reads it."""
    return WebhookRequest(method="POST", headers=headers, query={}, body=body)


# --- rows -------------------------------------------------------------------------------------------------------------


async def offer(base: Foundation, definition: AnyDefinition, secret: str | None = SIGNING) -> None:
    """Make the definition's target, with the operator's signing secret."""
    key = definition.target_key
    async with base.database.write() as tx:
        await tx.run(delete(Target).where(Target.key == key))  # that of a control plane which runs
        row = Target(key=key, family_id=definition.family_id, variant_id=definition.variant_id, enabled=True)
        row.config = "{}"
        row.revision = row.created_at = row.updated_at = 1
        await tx.add(row)
        if secret is not None:
            sealed = await base.vault.seal(tx, target_secret_place(key, "webhook_secret"), Secret(secret.encode()))
            await tx.add(TargetSecret(target_key=key, name="webhook_secret", value=sealed, updated_at=1))


async def connect(
    base: Foundation,
    target_key: str,
    connection_id: str = CONNECTION,
    config: Mapping[str, object] | None = None,
    *,
    organization_id: str = ORGANIZATION,
    secret: str | None = None,
    status: str = "active",
    method: MethodKind = MethodKind.API_KEY,
) -> None:
    """Make a connection, with a signing secret of its own where one is given."""
    row = ConnectionRow(id=connection_id, organization_id=organization_id, target_key=target_key, status=status)
    row.config = json.dumps({"workspace": WORKSPACE} if config is None else config)
    row.method, row.created_at, row.updated_at = method.value, 1, 1
    async with base.database.write() as tx:
        await tx.add(row)
        if secret is not None:
            place = credential_place(row, "webhook_secret", "")
            value = await base.vault.seal(tx, place, Secret(secret.encode()))
            credential = Credential(connection_id=connection_id, secret_type="webhook_secret", slot_key="")
            credential.value, credential.version, credential.updated_at = value, "ver_1", 1
            await tx.add(credential)


async def bind(
    base: Foundation,
    profile_id: str = PROFILE,
    connection_id: str = CONNECTION,
    *,
    organization_id: str = ORGANIZATION,
    version: int = 1,
    bound: bool = True,
) -> None:
    """Make a version of a profile, which is made where it is not there, with a binding to the connection."""
    async with base.database.write() as tx:
        if await tx.get(Profile, profile_id) is None:
            await tx.add(Profile(id=profile_id, organization_id=organization_id, display_name=None, created_at=1))
        await tx.add(ProfileVersion(profile_id=profile_id, version=version, image=None, egress=None, created_at=1))
        if bound:
            row = Binding(id=f"bnd_{profile_id}_{version}", profile_id=profile_id, version=version, position=0)
            row.connection_id, row.kind, row.config, row.created_at, row.updated_at = (
                connection_id,
                "connector",
                "{}",
                1,
                1,
            )
            await tx.add(row)


async def run_sandbox(base: Foundation, sandbox_id: str, version: int, profile_id: str = PROFILE) -> None:
    """Make a sandbox of a version of a profile."""
    row = Sandbox(id=sandbox_id, organization_id=ORGANIZATION, profile_id=profile_id, version=version, created_at=1)
    async with base.database.write() as tx:
        await tx.add(row)


# --- everything together ----------------------------------------------------------------------------------------------


class WebhookStage:
    """One provider, one replica by a test's own clock, and a subscriber."""

    def __init__(
        self, base: Foundation, subscriber: Subscriber, definition: AnyDefinition, owner: str = "replica-1"
    ) -> None:
        self.base = base
        self.subscriber = subscriber
        self.definition = definition
        self.now = NOW
        self.woken = 0
        registry = Registry([definition, *(each for each in CATALOG if each.target_key != definition.target_key)])
        dialer = Dialer(AddressPolicy(allow=(ip_network("127.0.0.0/8"),)), Resolver())
        self.session = CheckedSession(dialer, client_context(str(subscriber.ca_file)))
        database, vault = base.database, base.vault
        self.ingest = Ingest(database, vault, registry, self._wake)
        self.endpoints = WebhookEndpoints(database, registry, PUBLIC_URL)
        self.subscriptions = WebhookSubscriptions(database, vault, give_up_seconds=DAY)
        self.outbox = Outbox(
            database, vault, self.session, lambda: self.now, owner, delivery_seconds=5.0, give_up_seconds=DAY
        )

    def _wake(self) -> None:
        self.woken += 1

    async def prepare(self) -> str:
        """Offer the target, connect, bind; return the key of an endpoint."""
        await offer(self.base, self.definition)
        await connect(self.base, self.definition.target_key)
        await bind(self.base)
        return await self.endpoint()

    async def endpoint(self, connection_id: str | None = None) -> str:
        """Make an endpoint and return its key."""
        made = await self.endpoints.create(self.definition.target_key, connection_id, None, self.now)
        return str(made["endpointKey"])

    async def subscribe(self, path: str = "/hook", *types: str, profile_id: str = PROFILE) -> tuple[str, str]:
        """Make a subscription; return its id and its secret."""
        made = await self.subscriptions.create(profile_id, self.subscriber.url(path), types, self.now)
        return str(made["subscriptionId"]), str(made["secret"])

    async def send(self, key: str, body: bytes, headers: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401
        """Send as the provider does; return what was answered, in words where it was an event."""
        handler = self.definition.webhook_handler
        assert handler is not None
        fields = signed(handler.verification, body, self.now) if headers is None else headers
        answer = await self.ingest.take(await self.ingest.open(key), request(body, fields), self.now)
        return answer if isinstance(answer, WebhookResponse) else answer.status

    async def work(self) -> None:
        """Do what is due, and wait until it is done."""
        await self.outbox.work()
        await until(lambda: self.outbox.is_idle)

    async def events(self) -> list[EventRow]:
        """Return what is written of events."""
        async with self.base.database.read() as tx:
            return list(await tx.all(select(EventRow).order_by(EventRow.id)))

    async def deliveries(self) -> list[WebhookDelivery]:
        """Return what is written of deliveries."""
        async with self.base.database.read() as tx:
            return list(await tx.all(select(WebhookDelivery).order_by(WebhookDelivery.event_id)))


@contextlib.asynccontextmanager
async def webhook_stage(
    base: Foundation, subscriber: Subscriber, definition: AnyDefinition, owner: str = "replica-1"
) -> AsyncIterator[WebhookStage]:
    """Open one."""
    stage = WebhookStage(base, subscriber, definition, owner)
    try:
        yield stage
        await until(lambda: stage.outbox.is_idle)
    finally:
        await stage.session.close()
