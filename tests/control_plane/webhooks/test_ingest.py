"""Requests of providers: right and wrong, from GitHub, Linear, Slack's kind and Standard Webhooks."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.definitions.catalog import CATALOG
from control_plane.definitions.contract import (
    HmacSignature,
    MethodKind,
    Verification,
    WebhookEvent,
    WebhookRefused,
    WebhookResponse,
)
from control_plane.foundation import Foundation
from control_plane.refusals import Refused
from control_plane.store.database import Transaction
from control_plane.store.models import Connection, Target
from control_plane.webhooks import ingest
from control_plane.webhooks.ingest import HELD_BYTES, stored_id
from tests.support.control_plane import CONNECTION, NOW, ORGANIZATION
from tests.support.subscriber import Subscriber
from tests.support.webhook_signatures import HEX, SIGNING, SLACK, STANDARD, STANDARD_SIGNING, signed
from tests.support.webhook_stage import WebhookStage, chat, connect, event_body, offer, request, webhook_stage

BY_TARGET_KEY = {definition.target_key: definition for definition in CATALOG}
SQLITE = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
OTHER = "whsec_b3RoZXItb3RoZXItb3RoZXItb3RoZXI="


async def refused(stage: WebhookStage, key: str, body: bytes, headers: dict[str, str] | None = None) -> str:
    with pytest.raises(Refused) as caught:
        await stage.send(key, body, headers)
    assert SIGNING not in str(caught.value)
    return caught.value.code.wire


# --- an event ---------------------------------------------------------------------------------------------------------


async def test_an_event_is_written_once(hooks: WebhookStage) -> None:
    key = await hooks.prepare()
    assert await hooks.send(key, event_body()) == "accepted"
    assert await hooks.send(key, event_body()) == "duplicate"
    assert await hooks.send(key, event_body(text="another, with the same id")) == "duplicate"
    [event] = await hooks.events()
    assert (event.external_id, event.connection_id, event.organization_id) == ("ext_1", CONNECTION, ORGANIZATION)
    assert (event.type, event.state, event.received_at) == ("message", "pending", int(NOW))
    assert json.loads(event.payload) == json.loads(event_body())
    assert hooks.woken == 3  # a duplicate may be of one that nobody has processed


async def test_of_many_at_once_one_is_accepted(hooks: WebhookStage) -> None:
    key = await hooks.prepare()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(hooks.send(key, event_body())) for _ in range(8)]
    assert sorted(task.result() for task in tasks) == ["accepted", *["duplicate"] * 7]
    assert len(await hooks.events()) == 1


@SQLITE
async def test_who_does_not_share_the_secret_is_refused(hooks: WebhookStage) -> None:
    key = await hooks.prepare()
    body = event_body()
    assert await refused(hooks, key, body, {}) == "signature_refused"
    assert await refused(hooks, key, body, signed(HEX, body, NOW, OTHER)) == "signature_refused"
    assert await refused(hooks, key, body, signed(HEX, body + b" ", NOW)) == "signature_refused"
    # What it says of itself is not looked at without a signature.
    assert await refused(hooks, key, event_body(workspace="nobody's"), {}) == "signature_refused"
    assert (await hooks.events(), hooks.woken) == ([], 0)


@SQLITE
@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_request"),
        (b"\xff\x00", "invalid_request"),
        (b"[]", "invalid_request"),
        (b"[" * 100_000, "invalid_request"),
        (b'{"type": "message", "workspace": "wsp_1"}', "invalid_request"),
        (event_body("x" * 256), "invalid_request"),
        (event_body("a\x00b"), "invalid_request"),
        (event_body(type="a\nb"), "invalid_request"),
        (event_body(type=""), "invalid_request"),
    ],
)
async def test_what_is_no_event(hooks: WebhookStage, body: bytes, code: str) -> None:
    key = await hooks.prepare()
    assert await refused(hooks, key, body) == code
    assert await hooks.events() == []


async def test_an_odd_payload_is_kept_as_it_came(hooks: WebhookStage) -> None:
    key = await hooks.prepare()
    body = event_body(text="\x00 \U0001f600 \u2028", big=2**63, deep=[[[]]], nothing=None)
    assert await hooks.send(key, body) == "accepted"
    [event] = await hooks.events()
    assert json.loads(event.payload) == json.loads(body)


async def test_an_event_for_nobody_is_not_kept(hooks: WebhookStage) -> None:
    key = await hooks.prepare()
    assert await hooks.send(key, event_body(workspace="wsp_unknown")) == "unrouted"
    assert ingest.Taken("unrouted").code == 202
    assert await hooks.events() == []


@SQLITE
async def test_the_first_connection_by_id_is_meant_but_none_that_was_revoked(
    hooks: WebhookStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "CANDIDATES_A_PAGE", 2)
    key = await hooks.prepare()
    target = hooks.definition.target_key
    await connect(hooks.base, target, "con_0", status="revoked")
    await connect(hooks.base, target, "con_1", {"workspace": "wsp_2"})
    await connect(hooks.base, target, "con_2", {"of": "an older definition"})
    await connect(hooks.base, target, "con_3", organization_id="org_two", status="error")
    assert await hooks.send(key, event_body()) == "accepted"
    [event] = await hooks.events()
    assert (event.connection_id, event.organization_id) == ("con_3", "org_two")


# --- whose word counts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", [HEX, SLACK, STANDARD], ids=["hmac", "slack", "standard"])
async def test_connections_that_sign_each_with_a_secret_of_its_own(
    base: Foundation, subscriber: Subscriber, scheme: Verification
) -> None:
    """By payload: one URL, and several connections even of one account."""
    definition = chat(scheme, ownership="connection")
    async with webhook_stage(base, subscriber, definition) as stage:
        await offer(base, definition, secret=None)
        await connect(base, definition.target_key, "con_1", secret=STANDARD_SIGNING)
        await connect(base, definition.target_key, "con_2", secret=OTHER, organization_id="org_two")
        await connect(base, definition.target_key, "con_3", {"workspace": "wsp_3"}, secret=OTHER)
        await connect(base, definition.target_key, "con_4")
        key = await stage.endpoint()
        body, second = event_body("ext_1"), event_body("ext_2")
        assert await stage.send(key, second, signed(scheme, second, NOW, OTHER)) == "accepted"
        assert await stage.send(key, body, signed(scheme, body, NOW, STANDARD_SIGNING)) == "accepted"
        found = {event.external_id: event.connection_id for event in await stage.events()}
        assert found == {"con_1 ext_1": "con_1", "con_2 ext_2": "con_2"}
        # Another one's secret is no proof, and an account that nobody connected is answered like that.
        third = event_body("ext_3", workspace="wsp_3")
        assert await refused(stage, key, third, signed(scheme, third, NOW, STANDARD_SIGNING)) == "signature_refused"
        unknown = event_body("ext_3", workspace="wsp_unknown")
        assert await refused(stage, key, unknown, signed(scheme, unknown, NOW, OTHER)) == "signature_refused"


@SQLITE
async def test_a_connection_cannot_use_up_the_ids_of_another(base: Foundation, subscriber: Subscriber) -> None:
    definition = chat(HEX, ownership="connection", routing="path")
    async with webhook_stage(base, subscriber, definition) as stage:
        await offer(base, definition, secret=None)
        await connect(base, definition.target_key, "con_1", secret=SIGNING)
        await connect(base, definition.target_key, "con_2", secret=OTHER, organization_id="org_two")
        await connect(base, definition.target_key, "con_3")
        first, second, third = [await stage.endpoint(f"con_{number}") for number in (1, 2, 3)]
        body = event_body()
        assert await stage.send(first, body, signed(HEX, body, NOW, SIGNING)) == "accepted"
        assert await stage.send(second, body, signed(HEX, body, NOW, OTHER)) == "accepted"
        assert await stage.send(second, body, signed(HEX, body, NOW, OTHER)) == "duplicate"
        assert await refused(stage, second, body, signed(HEX, body, NOW, SIGNING)) == "signature_refused"
        assert await refused(stage, third, body, signed(HEX, body, NOW, SIGNING)) == "webhook_not_ready"
        source = definition.webhook_source
        assert source is not None
        assert stored_id(source, "con_1", "x") != stored_id(source, "con_2", "x")


@SQLITE
async def test_by_path_the_url_names_the_connection(base: Foundation, subscriber: Subscriber) -> None:
    definition = chat(HEX, ownership="target", routing="path")
    async with webhook_stage(base, subscriber, definition) as stage:
        await offer(base, definition)
        await connect(base, definition.target_key, "con_1")
        await connect(base, definition.target_key, "con_2")
        key = await stage.endpoint("con_2")
        assert await stage.send(key, event_body(workspace="whatever it says")) == "accepted"
        [event] = await stage.events()
        assert event.connection_id == "con_2"
        async with base.database.write() as tx:
            await _revoke(tx, "con_2")
        assert await refused(stage, key, event_body()) == "webhook_endpoint_not_found"


async def _revoke(tx: Transaction, connection_id: str) -> None:
    row = await tx.get(Connection, connection_id)
    assert row is not None
    row.status = "revoked"


# --- answers at once --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ownership", ["target", "connection"])
@SQLITE
async def test_a_challenge_is_answered_without_a_trace(
    base: Foundation, subscriber: Subscriber, ownership: str
) -> None:
    definition = chat(SLACK, ownership="target" if ownership == "target" else "connection")
    async with webhook_stage(base, subscriber, definition) as stage:
        await offer(base, definition)
        await connect(base, definition.target_key, "con_1", secret=OTHER)
        await connect(base, definition.target_key, "con_2", secret=SIGNING)
        key = await stage.endpoint()
        body = json.dumps({"type": "url_verification", "challenge": "3eZbrw1aB"}).encode()
        answer = await stage.send(key, body)
        assert isinstance(answer, WebhookResponse)
        assert (answer.status, json.loads(answer.body)) == (200, {"challenge": "3eZbrw1aB"})
        assert await refused(stage, key, body, {}) == "signature_refused"
        assert await refused(stage, key, body, signed(SLACK, body, NOW, STANDARD_SIGNING)) == "signature_refused"
        open_one = json.dumps({"challenge": "x", "open": True}).encode()
        assert isinstance(await stage.send(key, open_one, {}), WebhookResponse)
        assert (await stage.events(), stage.woken) == ([], 0)


# --- age --------------------------------------------------------------------------------------------------------------


@SQLITE
@pytest.mark.parametrize(
    ("at", "fresh"), [(0, True), (-60, True), (60, True), (-61, False), (61, False), (None, False)]
)
async def test_a_signed_payload_may_be_too_old(
    base: Foundation, subscriber: Subscriber, at: int | None, fresh: bool
) -> None:
    definition = chat(HEX, max_age=60)
    async with webhook_stage(base, subscriber, definition) as stage:
        key = await stage.prepare()
        body = event_body(at=None if at is None else int(NOW) + at)
        found = await stage.send(key, body) if fresh else await refused(stage, key, body)
        assert found == ("accepted" if fresh else "signature_refused")


# --- what is not there ------------------------------------------------------------------------------------------------


@SQLITE
async def test_endpoints_that_take_nothing(hooks: WebhookStage) -> None:
    key = await hooks.prepare()
    assert await refused(hooks, "whk_" + "0" * 48, event_body()) == "webhook_endpoint_not_found"
    async with hooks.base.database.write() as tx:
        target = await tx.get(Target, hooks.definition.target_key)
        assert target is not None
        target.enabled = False
    assert await refused(hooks, key, event_body()) == "webhook_endpoint_not_found"


@SQLITE
async def test_a_target_without_its_secret_is_asked_again(hooks: WebhookStage) -> None:
    await offer(hooks.base, hooks.definition, secret=None)
    key = await hooks.endpoint()
    assert await refused(hooks, key, event_body()) == "webhook_not_ready"


@SQLITE
async def test_bodies_have_a_budget(hooks: WebhookStage) -> None:
    with hooks.ingest.room() as arrived, hooks.ingest.room() as other:
        arrived(HELD_BYTES - 1)
        other(1)
        with pytest.raises(Refused, match="overloaded"):
            other(1)
    with hooks.ingest.room() as arrived:
        arrived(HELD_BYTES)


# --- providers of the catalog -----------------------------------------------------------------------------------------


LINEAR_BODY = json.dumps(
    {
        "action": "create",
        "type": "Issue",
        "organizationId": "9f3a",
        "webhookTimestamp": int(NOW) * 1000,
        "data": {"id": "2174add1", "title": "Title of the issue"},
    }
).encode()
SLACK_BODY = json.dumps(
    {
        "token": "XXYYZZ",
        "team_id": "T1DC2JH3J",
        "type": "event_callback",
        "event_id": "Ev9UQ52YNA",
        "event_time": int(NOW),
        "event": {"type": "message", "text": "hi"},
    }
).encode()
GITHUB_BODY = json.dumps({"action": "opened", "installation": {"id": 777}, "issue": {"number": 1}}).encode()


@pytest.mark.parametrize(
    ("key", "method", "config", "body", "headers", "scheme", "type_"),
    [
        (
            "linear-default",
            MethodKind.OAUTH2_AUTHORIZATION_CODE,
            {"organizationId": "9f3a"},
            LINEAR_BODY,
            {"linear-delivery": "234d1a4e", "linear-event": "Issue"},
            HmacSignature(header="linear-signature"),
            "Issue.create",
        ),
        (
            "github-cloud",
            MethodKind.GITHUB_APP_INSTALLATION,
            {"installationId": "777"},
            GITHUB_BODY,
            {"x-github-event": "issues", "x-github-delivery": "72d3162e", "x-github-hook-id": "1"},
            HmacSignature(header="x-hub-signature-256", prefix="sha256="),
            "issues.opened",
        ),
        (
            "slack-default",
            MethodKind.OAUTH2_AUTHORIZATION_CODE,
            {"teamId": "T1DC2JH3J"},
            SLACK_BODY,
            {"content-type": "application/json"},
            SLACK,
            "message",
        ),
    ],
    ids=["linear", "github", "slack"],
)
async def test_a_provider_of_the_catalog(
    base: Foundation,
    subscriber: Subscriber,
    key: str,
    method: MethodKind,
    config: dict[str, str],
    body: bytes,
    headers: dict[str, str],
    scheme: Verification,
    type_: str,
) -> None:
    definition = BY_TARGET_KEY[key]
    async with webhook_stage(base, subscriber, definition) as stage:
        await offer(base, definition)
        await connect(base, key, config=config, method=method)
        endpoint = await stage.endpoint()
        good = headers | signed(scheme, body, NOW)
        assert await stage.send(endpoint, body, good) == "accepted"
        assert await stage.send(endpoint, body, good) == "duplicate"
        assert await refused(stage, endpoint, body, headers | signed(scheme, body, NOW, OTHER)) == "signature_refused"
        other = b'{"type":"what no definition knows"}'
        assert await refused(stage, endpoint, other, signed(scheme, other, NOW)) == "invalid_request"
        [event] = await stage.events()
        assert (event.type, event.connection_id) == (type_, CONNECTION)
        if key != "github-cloud":  # its payloads have no time
            stage.now += 3600
            later = good | {"linear-delivery": "other"}
            assert await refused(stage, endpoint, body, later) == "signature_refused"


@SQLITE
async def test_a_challenge_of_slack_is_answered(base: Foundation, subscriber: Subscriber) -> None:
    definition = BY_TARGET_KEY["slack-default"]
    async with webhook_stage(base, subscriber, definition) as stage:
        await offer(base, definition)
        key = await stage.endpoint()
        body = b'{"token":"Jhj5","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWM","type":"url_verification"}'
        answer = await stage.send(key, body, signed(SLACK, body, NOW))
        assert isinstance(answer, WebhookResponse)
        assert json.loads(answer.body) == {"challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWM"}
        assert await refused(stage, key, body, signed(SLACK, body, NOW - 301)) == "signature_refused"


@SQLITE
async def test_a_ping_of_github_is_answered(base: Foundation, subscriber: Subscriber) -> None:
    definition = BY_TARGET_KEY["github-cloud"]
    async with webhook_stage(base, subscriber, definition) as stage:
        await offer(base, definition)
        key = await stage.endpoint()
        body = b'{"zen":"Design for failure."}'
        headers = {"x-github-event": "ping", "x-github-delivery": "1"}
        good = signed(HmacSignature(header="x-hub-signature-256", prefix="sha256="), body, NOW)
        assert isinstance(await stage.send(key, body, headers | good), WebhookResponse)
        assert await refused(stage, key, body, headers) == "signature_refused"


NAMES = st.sampled_from(
    [
        "x-github-event",
        "x-github-delivery",
        "x-hub-signature-256",
        "linear-delivery",
        "linear-signature",
        "content-type",
    ]
)
JSON = st.dictionaries(
    st.sampled_from(["action", "type", "organizationId", "webhookTimestamp", "installation", "id", "challenge"]),
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.dictionaries(st.just("id"), st.integers() | st.text(max_size=5) | st.none(), max_size=1)
    | st.lists(st.integers(), max_size=2),
)


@pytest.mark.parametrize("key", sorted(each.target_key for each in CATALOG if each.webhook_handler is not None))
@given(st.data())
def test_whatever_is_sent_is_an_event_an_answer_or_refused(key: str, data: st.DataObject) -> None:
    handler = BY_TARGET_KEY[key].webhook_handler
    assert handler is not None
    document = data.draw(JSON)
    body = data.draw(st.binary(max_size=30) | st.just(json.dumps(document).encode()))
    headers = data.draw(st.dictionaries(NAMES, st.text(st.characters(max_codepoint=0xFF), max_size=20)))
    try:
        found = handler.resolve_webhook_request(request(body, headers))
    except WebhookRefused:
        return
    assert isinstance(found, WebhookEvent | WebhookResponse)
    if isinstance(found, WebhookEvent):
        at = handler.occurred_at(found)
        assert at is None or isinstance(at, int)
        json.dumps(found.payload)
