"""The serving processes together: told alike, asked as one, and what they hold known in one place."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.core.credential_cache import RevocationsFull
from gateway.processes import fleet as fleet_module
from gateway.processes.fleet import HeldStreams, HeldTunnels
from gateway.revocations import RevocationLimitError
from tests.support.gateway_plans import plan
from tests.support.stub_fleet import StubFleet, eventually, stub_fleet


@pytest.fixture
async def stubs(tmp_path: Path) -> AsyncIterator[StubFleet]:
    async with stub_fleet(tmp_path) as stubs:
        stubs.start()
        await stubs.serving()
        yield stubs


async def test_counts_are_the_sum_of_all(stubs: StubFleet) -> None:
    assert await stubs.fleet.revoke_everywhere("sid", "ses_one", 4e9) == 1 + 2
    assert await stubs.fleet.invalidate_everywhere("connection", "con_one") == 10 + 20
    assert await stubs.fleet.invalidate_everywhere("all", None) == 30
    assert await stubs.fleet.invalidate_everywhere("binding", "bnd_one", "org_one") == 30
    assert await stubs.fleet.revoke_everywhere("binding", "bnd_one", 4e9, "org_one") == 3
    expected = [
        'POST /v1/tokens/revoke {"kind": "sid", "id": "ses_one", "until": 4000000000}',
        'POST /v1/credentials/invalidate {"kind": "connection", "id": "con_one"}',
        'POST /v1/credentials/invalidate {"kind": "all"}',
        'POST /v1/credentials/invalidate {"kind": "binding", "id": "bnd_one", "organizationId": "org_one"}',
        'POST /v1/tokens/revoke {"kind": "binding", "id": "bnd_one", "until": 4000000000, "organizationId": "org_one"}',
    ]
    for number in (1, 2):
        assert stubs.orders(number)[1:] == expected
    assert [each.revoked_id for each in stubs.fleet.revocations] == ["ses_one"]  # of the admin listener's own tokens


async def test_what_is_settled_was_taken_by_all(stubs: StubFleet) -> None:
    stubs.plans.apply(plan([]))
    stubs.plans.withhold()
    stubs.plans.withhold()
    stubs.plans.release()
    await stubs.fleet.settled("sbx_one")
    await stubs.fleet.settled("sbx_one")
    for number in (1, 2):
        assert stubs.asked(number)[1] == "PUT /internal/plans/sbx_one?change=1"
    stubs.plans.remove("sbx_one")
    await stubs.fleet.settled("sbx_one")
    for number in (1, 2):
        assert "DELETE /internal/ahead/sbx_one?change=2" in stubs.asked(number)
    # And in its turn, so that a plan that comes later does not find this one still there.
    stubs.plans.apply(plan([]))
    await stubs.fleet.settled("sbx_one")
    for number in (1, 2):
        assert [line for line in stubs.asked(number)[1:] if "ahead" not in line] == [
            "PUT /internal/plans/sbx_one?change=1",
            "POST /internal/plans-withheld",
            "POST /internal/plans-withheld",
            "DELETE /internal/plans/sbx_one?change=2",
            "PUT /internal/plans/sbx_one?change=3",
        ]
    assert [order.target for order in stubs.fleet.state()] == ["/internal/plans/sbx_one?change=3"]


async def test_the_denials_of_all_are_in_one_place(stubs: StubFleet) -> None:
    for number in (1, 2):
        denial = {"sandboxId": "sbx_one", "path": f"/{number}"}
        stubs.write(f"reports-{number}", json.dumps({"denials": [denial, {**denial, "sandboxId": "sbx_two"}]}))
    await eventually(lambda: len(stubs.denials) == 4)
    found = [json.loads(each.document) for each in stubs.denials.after("", "sbx_one")]
    assert {each["path"] for each in found} == {"/1", "/2"}


async def test_a_newer_tunnel_closes_the_one_at_another_process(stubs: StubFleet) -> None:
    heard: list[str] = []
    stubs.fleet.tunnels.subscribe(heard.append)
    stubs.write("reports-1", '{"tunnel": "sbx_one", "epoch": 100}\n{"held": ["sbx_one", "sbx_two"]}')
    await eventually(lambda: bool(stubs.fleet.streams.sandboxes()))
    # By the order in which they came: the clocks of processes are a quarter of a second apart.
    stubs.write("reports-2", '{"tunnel": "sbx_one", "epoch": 50}')
    await eventually(lambda: 'POST /internal/superseded {"sandboxId": "sbx_one", "epoch": 100}' in stubs.orders(1))
    assert stubs.fleet.tunnels.process("sbx_one") == 2
    stubs.write(
        "reports-1",
        '{"tunnel": "sbx_one", "epoch": 100}\n{"held": ["sbx_one", "sbx_two"]}\n'
        '{"tunnel": "sbx_one", "epoch": null}\n{"released": ["sbx_one"]}',
    )
    await eventually(lambda: set(stubs.fleet.streams.sandboxes()) == {"sbx_two"})
    assert list(stubs.fleet.tunnels.sandboxes()) == [("sbx_one", 50)]
    stubs.fleet.processes[1].kill()
    await eventually(lambda: list(stubs.fleet.tunnels.sandboxes()) == [])
    assert heard == ["sbx_one"] * 4


async def test_what_one_lacks_is_fetched_and_said(stubs: StubFleet) -> None:
    wanted: list[str] = []

    class Source:
        def want(self, sandbox_id: str) -> asyncio.Future[None]:
            wanted.append(sandbox_id)
            stubs.plans.apply(plan([]))
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            done.set_result(None)
            return done

    keys: list[None] = []
    stubs.plans.source = Source()
    stubs.fleet.on_want_keys = lambda: keys.append(None)
    stubs.write("reports-2", '{"wantPlan": "sbx_one"}\n{"wantKeys": true}\n{"unheardOf": 1}')
    await eventually(lambda: any("settled" in line for line in stubs.orders(2)))
    asked = [line.split(" ")[1] for line in stubs.orders(2)]
    assert asked.index("/internal/plans/sbx_one?change=1") < asked.index("/internal/plans/sbx_one/settled")
    assert (wanted, len(keys)) == (["sbx_one"], 1)


async def test_revocations_have_the_limits_of_one_process(stubs: StubFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    stubs.fleet.revoke("connection", "con_gone", 1.0)  # has run out: makes room
    stubs.fleet.revoke("binding", "bnd_one", 4e9)
    stubs.fleet.revoke("connection", "con_one", 4e9)
    stubs.fleet.revoke("connection", "con_one", 4e9 + 1)
    with pytest.raises(RevocationsFull):
        stubs.fleet.revoke("connection", "con_two", 4e9)
    monkeypatch.setattr(fleet_module, "MAX_REVOCATIONS", 1)
    stubs.fleet.revoke("jti", "tok_one", 4e9)
    with pytest.raises(RevocationLimitError):
        stubs.fleet.revoke("sandbox", "sbx_one", 4e9)
    assert repr(stubs.fleet) == "<Fleet of 2: 0 plans, 3 revoked>"


COUNT = "# TYPE sallyport_x_total counter\nsallyport_x_total %d\n# TYPE sallyport_now gauge\nsallyport_now %d\n"


async def test_counters_outlive_a_process_and_sizes_do_not(stubs: StubFleet) -> None:
    stubs.write("metrics-1", COUNT % (5, 5))
    stubs.write("metrics-2", COUNT % (7, 7))
    own = (COUNT % (100, 100)).encode()
    assert b"sallyport_x_total 112.0\n" in await stubs.fleet.scrape(own)
    stubs.write("metrics-2", COUNT % (1, 1))  # its successor's
    stubs.fleet.processes[1].kill()
    await eventually(lambda: not stubs.fleet.is_serving)
    text = await stubs.fleet.scrape(own)
    assert b"sallyport_x_total 112.0\n" in text
    await stubs.serving()
    text = await stubs.fleet.scrape(own)
    assert b"sallyport_x_total 113.0\n" in text
    assert b"sallyport_now 106.0\n" in text


def test_several_tunnels_of_one_sandbox() -> None:
    closed: list[tuple[int, str, int]] = []
    tunnels = HeldTunnels(lambda *tunnel: closed.append(tunnel))
    tunnels.opened(1, "sbx_one", 10)
    tunnels.opened(1, "sbx_one", 11)  # the process itself has closed the older
    assert closed == []
    tunnels.opened(2, "sbx_one", 12)
    tunnels.opened(1, "sbx_one", 13)
    assert closed == [(1, "sbx_one", 11), (2, "sbx_one", 12)]
    assert (tunnels.process("sbx_one"), list(tunnels.sandboxes())) == (1, [("sbx_one", 13)])
    tunnels.close_superseded("sbx_one")
    assert closed[2:] == [(2, "sbx_one", 12), (1, "sbx_one", 13)]
    tunnels.gone(1)
    assert tunnels.process("sbx_one") == 2
    tunnels.lost(2, "sbx_one")
    tunnels.lost(2, "sbx_none")
    assert tunnels.process("sbx_one") is None
    assert repr(tunnels) == "<HeldTunnels of 0 sandboxes>"


def test_streams_of_several_processes() -> None:
    streams = HeldStreams()
    streams.changed(1, ["a", "b"], [])
    streams.changed(2, ["b"], [])
    assert streams.sandboxes() == {"a", "b"}
    streams.changed(1, [], ["b"])
    streams.gone(2)
    assert streams.sandboxes() == {"a"}


async def test_a_new_process_hears_whose_connection_is_revoked(stubs: StubFleet) -> None:
    for whose in ("org_one", None):
        stubs.fleet.revoke("connection", "con_one", 4e9, whose)
        stubs.fleet.revoke("connection", "con_one", 4e9, whose)
    orders = [json.loads(order.body) for order in stubs.fleet.state() if order.target == "/v1/tokens/revoke"]
    assert [order.get("organizationId") for order in orders] == ["org_one", None]
