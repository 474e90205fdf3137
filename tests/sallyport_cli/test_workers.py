"""`sallyport workers`, by the API of a control plane that runs."""

import asyncio
from pathlib import Path

import pytest

from tests.support.command import Outcome, call
from tests.support.control_plane import replica, settings

REPORT = {"epoch": 1, "apiUrl": "http://127.0.0.1:4200", "servers": []}


async def test_workers_are_listed_and_forgotten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with replica(settings(tmp_path / "data", None)) as api:
        key = (await api.ask("POST", "/v1/api-keys", {"role": "operator"}, status=201))["key"]
        (tmp_path / "key").write_text(key)
        reach = ("--control", f"http://127.0.0.1:{api.plane.port}", "--token-file", tmp_path / "key")

        async def ask(*words: object) -> Outcome:
            return await asyncio.to_thread(call, capsys, "workers", *words, *reach)

        for worker_id in ("wrk_1", "wrk_2"):
            await api.ask("PUT", f"/internal/v1/workers/{worker_id}", REPORT)
        await api.ask("DELETE", "/internal/v1/workers/wrk_2?epoch=1", status=204)
        listed = await ask("list")
        rows = [line.split() for line in listed.out.splitlines() if line.lstrip().startswith("wrk_")]
        assert rows == [
            ["wrk_1", "live", "0", "http://127.0.0.1:4200"],
            ["wrk_2", "withdrawn", "0", "http://127.0.0.1:4200"],
        ]
        refused = await ask("forget", "wrk_1")
        assert (refused.status, "end it, or wait until 30 s after its last word" in refused.err) == (2, True)
        # The control plane of the test logs to the same place.
        assert (await ask("forget", "wrk_2")).out.endswith("wrk_2 is forgotten\n")
        assert [each["workerId"] for each in (await ask("list", "--json")).json()["items"]] == ["wrk_1"]
        assert (await ask("forget", "wrk_2", "--json")).status == 2
