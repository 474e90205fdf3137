"""More opaque bulk than the kernel may move at once: all of it arrives, and every descriptor comes back."""

import asyncio
import os
import random
from pathlib import Path

import pytest

from tests.support.gateway_plans import plan
from tests.support.gateway_process import GatewayProcess, Setting, gateway_process
from tests.support.plan_documents import rule_document
from tests.support.raw_end import RawEnd, RawOrigin, raw_origin
from tests.support.until import until

pytestmark = [pytest.mark.full, pytest.mark.timeout(120)]

HOST = "bulk.test"
STREAMS = 160
AT_ONCE = 40
SPLICES = 24
PIECE = 512 * 1024


def descriptors(gateway: GatewayProcess) -> int:
    return len(os.listdir(f"/proc/{gateway.process.pid}/fd"))


async def opened(gateway: GatewayProcess, origin: RawOrigin, taking: asyncio.Lock) -> tuple[RawEnd, RawEnd]:
    async with taking:  # so that the link is this stream's
        client = await RawEnd.dial(gateway.proxy_port)
        authorization = f"Proxy-Authorization: Bearer {gateway.token}"
        client.send(f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n{authorization}\r\n\r\n".encode())
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")
        return client, await origin.link()


async def carried(sender: RawEnd, receiver: RawEnd, chance: random.Random) -> None:
    payload = b"-" + chance.randbytes(PIECE - 1)  # no ClientHello
    sender.send(payload)
    assert await receiver.exactly(PIECE) == payload


async def played(client: RawEnd, link: RawEnd, chance: random.Random) -> None:
    """Bulk both ways, and one of the ends that a stream can have."""
    ends = [client, link]
    for _ in range(3):
        await carried(client, link, chance)
        await carried(link, client, chance)
        chance.shuffle(ends)
    first, second = ends
    match chance.randrange(3):
        case 0:
            first.send(bytes(4 * PIECE))
            second.abort()
        case 1:
            second.pause()
            first.send(bytes(16 * PIECE))
            first.abort()
            second.resume()
        case _:
            first.end()
            assert await second.rest() == b""
            await carried(second, first, chance)
    for end in ends:
        end.close()


@pytest.mark.parametrize("seed", range(2))
async def test_all_of_it_arrives_and_every_descriptor_comes_back(tmp_path: Path, seed: int) -> None:
    chance, taking, places = random.Random(seed), asyncio.Lock(), asyncio.Semaphore(AT_ONCE)
    async with raw_origin() as origin:
        setting = Setting(
            plan=plan([], [rule_document("open", "allow", HOST)]),
            connect_to={f"{HOST}:443": f"127.0.0.1:{origin.port}"},
            further={"limits": {"splices": SPLICES}},
        )
        with gateway_process(tmp_path / "gateway", setting) as gateway:

            async def one(seed: int) -> None:
                async with places:
                    await played(*await opened(gateway, origin, taking), random.Random(seed))

            await one(0)
            before = descriptors(gateway)
            async with asyncio.TaskGroup() as streams:
                for _ in range(STREAMS):
                    streams.create_task(one(chance.randrange(1 << 32)))
            await until(lambda: descriptors(gateway) <= before)
            records = gateway.audit(lambda found: len(found) == STREAMS + 1)
    assert {record["outcome"] for record in records} == {"passthrough"}
    assert all(min(record["bytesUp"], record["bytesDown"]) >= 3 * PIECE for record in records)
