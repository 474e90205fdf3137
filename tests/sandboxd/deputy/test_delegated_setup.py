"""Documents go to a deputy, whenever there is one; statuses come back, in a measure that the tunnel takes."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping

import pytest

from sallyport.setup import setup_digest
from sallyport.wire.errors import RemoteProtocolError
from sandboxd.deputy.delegated_setup import DEPUTY_SECONDS, STATUS_SECONDS, DelegatedSetup
from tests.support.deputies import DoorOfTest, PlayedDeputy, open_door
from tests.support.passing_time import let_time_pass
from tests.support.setup_documents import Json, artifact_document, client_document, exec_step, setup_body, shell
from tests.support.until import until

pytestmark = pytest.mark.uvloop

TOOL = artifact_document("tool", [exec_step(shell("true"))])


class Side:
    """A delegated set-up, and what it sends to the gateway."""

    def __init__(self, there: DoorOfTest, *, has_door: bool = True) -> None:
        self.there = there
        self.sent: list[Mapping[str, object]] = []
        self.setup = DelegatedSetup(
            there.door if has_door else None, clock=there.door.clock, send_status=self.sent.append
        )

    def send(self, revision: int, **fields: object) -> bytes:
        body = setup_body(revision, **fields)
        self.setup.announce(
            {"type": "setup.apply", "revision": revision, "digest": setup_digest(body), "sizeBytes": len(body)}
        )
        self.setup.document_received(revision, body)
        return body

    async def told(self, **wanted: object) -> Json:
        await until(lambda: bool(self.sent) and wanted.items() <= self.sent[-1].items())
        return dict(self.sent[-1])


@pytest.fixture
async def side() -> AsyncIterator[Side]:
    async with open_door() as there:
        side = Side(there)
        yield side
        await side.setup.close()


async def handed_over(deputy: PlayedDeputy, number: int = 0) -> tuple[Json, bytes]:
    """Return what is announced to a deputy, and the document that follows."""
    end = await deputy.opened(number)
    await end.until_event("eof")
    head, _, body = bytes(end.received).partition(b"\r\n\r\n")
    announced: Json = json.loads(deputy.owner.controls[number])
    assert head == b"CONNECT setup/%d HTTP/1.1\r\nHost: sandbox" % announced["revision"]
    return announced, body


async def test_a_document_is_handed_over_and_its_status_told(side: Side) -> None:
    with await side.there.deputy() as deputy:
        body = side.send(3, artifacts=[TOOL])
        assert await handed_over(deputy) == (
            {"type": "setup.apply", "revision": 3, "digest": setup_digest(body), "sizeBytes": len(body)},
            body,
        )
        deputy.say({"type": "setup.status", "revision": 3, "state": "applied", "steps": []})
        assert await side.told() == {"revision": 3, "state": "applied", "steps": []}
        side.setup.tunnel_ready()
        assert side.sent == [{"revision": 3, "state": "applied", "steps": []}] * 2
    # It has done its work: nobody waits for the next one.
    await until(lambda: side.there.door.tunnel is None)
    let_time_pass(side.there.door.clock, 2 * DEPUTY_SECONDS)
    assert len(side.sent) == 2


async def test_every_deputy_is_given_the_newest_document(side: Side) -> None:
    side.send(3, artifacts=[TOOL])
    newest = side.send(4, artifacts=[TOOL])
    with await side.there.deputy() as first:
        assert (await handed_over(first))[1] == newest
        first.say({"type": "setup.status", "revision": 4, "state": "applying", "steps": []})
        await side.told(state="applying")
    await until(lambda: side.there.door.tunnel is None)
    with await side.there.deputy() as second:
        assert (await handed_over(second))[1] == newest
        # An older one is its own to refuse, and is not kept.
        side.send(2)
        assert (await handed_over(second, 1))[0]["revision"] == 2
    await until(lambda: side.there.door.tunnel is None)
    with await side.there.deputy() as third:
        assert (await handed_over(third))[1] == newest


async def test_where_no_deputy_comes_it_is_said_and_done_later(side: Side) -> None:
    body = side.send(3, artifacts=[TOOL])
    let_time_pass(side.there.door.clock, DEPUTY_SECONDS - 1)
    assert side.sent == []
    let_time_pass(side.there.door.clock, 2)
    (step,) = (await side.told(revision=3, state="failed"))["steps"]
    assert step["name"] == "deputy"
    assert "no deputy runs" in step["issue"]
    with await side.there.deputy() as deputy:
        assert (await handed_over(deputy))[1] == body


async def test_one_that_leaves_in_the_midst_is_missed(side: Side) -> None:
    with await side.there.deputy() as deputy:
        side.send(3, artifacts=[TOOL])
        await handed_over(deputy)
    await until(lambda: side.there.door.tunnel is None)
    let_time_pass(side.there.door.clock, DEPUTY_SECONDS + 1)
    assert (await side.told())["steps"][0]["name"] == "deputy"


async def test_statuses_go_on_four_times_a_second_at_most(side: Side) -> None:
    loop = asyncio.get_running_loop()
    with await side.there.deputy() as deputy:
        began = loop.time()
        for revision in range(1, 501):
            deputy.say({"type": "setup.status", "revision": revision, "state": "applying", "steps": []})
        assert (await side.told(revision=500))["state"] == "applying"
        assert len(side.sent) <= (loop.time() - began) / STATUS_SECONDS + 2


async def test_what_was_not_announced_is_refused_here(side: Side) -> None:
    body = setup_body(3)
    side.setup.announce({"revision": 3, "digest": setup_digest(body), "sizeBytes": len(body)})
    side.setup.document_received(3, body + b" ")
    assert (await side.told())["steps"][0]["issue"] == "what came is not what was announced"
    side.setup.document_received(4, body)
    assert (await side.told(revision=4))["state"] == "failed"
    with pytest.raises(RemoteProtocolError):
        side.setup.announce({"revision": 3})
    assert repr(side.setup) == "<DelegatedSetup: nothing, <DeputyDoor nobody>>"


async def test_a_deputy_that_answers_without_end(side: Side) -> None:
    with await side.there.deputy() as deputy:
        side.send(3, artifacts=[TOOL])
        end = await deputy.opened()
        end.transport.write(b"x" * 100_000)
        await end.until_event("lost")


async def test_without_a_door_nothing_is_set_up() -> None:
    async with open_door() as there:
        side = Side(there, has_door=False)
        side.send(1)
        assert await side.told() == {"revision": 1, "state": "applied", "steps": []}
        for revision, fields in enumerate([{"artifacts": [TOOL]}, {"runtimeClients": [client_document()]}], 2):
            side.send(revision, **fields)
            (step,) = (await side.told(revision=revision, state="failed"))["steps"]
            assert "no deputy runs in this sandbox" in step["issue"]
        side.setup.announce({"revision": 9, "digest": setup_digest(b"{}"), "sizeBytes": 2})
        side.setup.document_received(9, b"{}")
        assert (await side.told(revision=9))["state"] == "failed"
        assert repr(side.setup) == "<DelegatedSetup: nothing, no door>"
        await side.setup.close()
