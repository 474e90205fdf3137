"""Waiting for the sign of readiness, by real listeners."""

import asyncio

import pytest

from sallyport.setup import NoReadiness, Readiness, TcpReadiness
from sandboxd.setup.readiness import until_ready
from sandboxd.setup.steps import StepFailed
from tests.support.raw_end import raw_origin
from tests.support.refusing_port import refusing_port
from tests.support.setup_documents import process_of


def readiness(**fields: object) -> Readiness:
    return process_of(["true"], readiness=fields).readiness


async def test_none_is_at_once() -> None:
    await until_ready(NoReadiness(kind="none"), lambda: False)


async def test_each_kind() -> None:
    async with raw_origin() as origin:
        url = f"127.0.0.1:{origin.port}/up"
        await until_ready(readiness(kind="tcp", host="127.0.0.1", port=origin.port, timeoutMs=2000), lambda: True)
        await origin.link()
        for sign, answer in (
            (readiness(kind="http", url=f"http://{url}", expectedStatus=204, timeoutMs=2000), b"204 No Content"),
            (readiness(kind="ws", url=f"ws://{url}", timeoutMs=2000), b"101 Switching Protocols"),
        ):
            async with asyncio.TaskGroup() as group:
                group.create_task(until_ready(sign, lambda: True))
                for status in (b"503 Not Yet", answer):
                    end = await origin.link()
                    await end.head()
                    end.send(b"HTTP/1.1 " + status + b"\r\n\r\n")


async def test_it_waits_until_somebody_listens() -> None:
    with refusing_port() as port:
        async with asyncio.TaskGroup() as group:
            sign = TcpReadiness(kind="tcp", host="localhost", port=port, timeout_ms=4000)
            waiting = group.create_task(until_ready(sign, lambda: True))
            await asyncio.sleep(0.05)
            assert not waiting.done()
            server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", port, reuse_port=True)
        server.close()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"kind": "tcp", "host": "127.0.0.1"}, "not ready within 300 ms: nothing accepts on port"),
        ({"kind": "tcp", "host": "example.com"}, "not ready within 300 ms: only 127"),
    ],
)
async def test_it_never_comes(fields: dict[str, object], reason: str) -> None:
    with refusing_port() as port, pytest.raises(StepFailed, match=reason):
        await until_ready(readiness(**fields, port=port, timeoutMs=300), lambda: True)


async def test_something_that_accepts_and_says_nothing() -> None:
    async with raw_origin() as origin:
        sign = readiness(kind="http", url=f"http://127.0.0.1:{origin.port}/", expectedStatus=200, timeoutMs=60)
        with pytest.raises(StepFailed, match="not ready within 60 ms"):
            await until_ready(sign, lambda: True)


async def test_a_port_that_answers_for_a_process_that_is_down() -> None:
    async with raw_origin() as origin:
        sign = readiness(kind="tcp", host="127.0.0.1", port=origin.port, timeoutMs=60)
        with pytest.raises(StepFailed, match="it did not run"):
            await until_ready(sign, lambda: False)


async def test_a_process_that_has_failed_for_good_is_not_waited_for() -> None:
    def is_up() -> bool:
        raise StepFailed("exited with code 1")

    with pytest.raises(StepFailed, match="exited with code 1"):
        await until_ready(readiness(kind="tcp", host="127.0.0.1", port=1, timeoutMs=60_000), is_up)
