"""Calls of a worker: to the right path, its errors in its words, no token in cleartext."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from control_client.errors import UNEXPECTED_ANSWER, ControlError
from control_client.service_token import ServiceToken
from control_client.session import Problem
from control_client.worker_calls import CLEARTEXT, WorkerCalls, read_error
from tests.support.fake_control import FakeControl, answer, fake_control

SERVER = "/integrations/time"


@contextlib.asynccontextmanager
async def calling(folder: Path) -> AsyncIterator[tuple[FakeControl, WorkerCalls]]:
    async with fake_control() as fake:
        token = ServiceToken(fake.token_file(folder))
        yield fake, WorkerCalls(fake.url, token, trust=None, seconds=5)


async def test_each_call_is_a_request(tmp_path: Path) -> None:
    async with calling(tmp_path) as (fake, calls):
        install = "/integrations/install"
        fake.misbehave(install, answer(201, b'{"id": "time", "installed": true}'))
        for path in (SERVER, f"{SERVER}/start", f"{SERVER}/stop"):
            fake.misbehave(path, answer(200, b"{}"))
        assert await calls.install({"source": "time"}) == "time"
        await calls.start("time")
        await calls.stop("time")
        await calls.remove("time")
        assert fake.asked == [
            ("POST", install, {"source": "time"}),
            ("POST", f"{SERVER}/start", {}),
            ("POST", f"{SERVER}/stop", {}),
            ("DELETE", SERVER, {}),
        ]
        assert repr(calls) == f"<WorkerCalls {fake.url}>"


async def test_a_refusal_is_told_in_the_worker_s_words(tmp_path: Path) -> None:
    error = b'{"error": {"category": "InvalidState", "message": "TOKEN is missing", "details": null}}'
    async with calling(tmp_path) as (fake, calls):
        fake.misbehave(f"{SERVER}/start", answer(409, error), answer(502, b"<h1>nginx</h1>"))
        with pytest.raises(ControlError) as caught:
            await calls.start("time")
        assert (caught.value.code, caught.value.words, caught.value.status) == ("InvalidState", "TOKEN is missing", 409)
        with pytest.raises(ControlError) as caught:
            await calls.start("time")
        assert (caught.value.code, caught.value.words) == (UNEXPECTED_ANSWER, "")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"error": 1}', b'{"error": {}}', b"[" * 60_000])
def test_what_is_no_error_of_a_worker(content: bytes) -> None:
    assert read_error(content) is None


def test_an_error_is_as_long_as_a_sentence() -> None:
    content = b'{"error": {"category": "NotFound", "message": "' + b"x" * 2000 + b'"}}'
    assert read_error(content) == Problem("NotFound", "x" * 1000)


@pytest.mark.parametrize("url", ["http://worker.test:4200", "http://10.0.0.1:4200", "worker.test:4200"])
def test_no_token_goes_in_cleartext_off_loopback(tmp_path: Path, url: str) -> None:
    with pytest.raises(ControlError) as caught:
        WorkerCalls(url, ServiceToken(tmp_path / "token"), trust=None, seconds=5)
    assert caught.value.code == CLEARTEXT
