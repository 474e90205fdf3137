"""`sallyport denials`: once, and going on."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import Outcome, call
from tests.support.control_plane import SANDBOX, replica, settings
from tests.support.scripted_http import scripted_http
from tests.support.told_denials import NAME, report_gateway, tell, told_denial


async def test_what_was_denied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with replica(settings(tmp_path / "data", None)) as api:
        await api.prepare(plan=False)
        key = (await api.ask("POST", "/v1/api-keys", {"role": "operator"}, status=201))["key"]
        (tmp_path / "key").write_text(key)
        reach = ("--control", f"http://127.0.0.1:{api.plane.port}", "--token-file", tmp_path / "key")

        async def ask(*words: object) -> Outcome:
            return await asyncio.to_thread(call, capsys, "denials", *words, *reach)

        assert "no gateway reports" in (await ask(SANDBOX)).out
        with scripted_http() as gateway:
            tell(gateway, [told_denial("/1"), told_denial("/2", nearest=None, detail=None, method=None, host=None)])
            await report_gateway(api, gateway.url)
            await report_gateway(api, "http://127.0.0.1:1", "gw_2")
            # The control plane logs to the same place.
            lines = (await ask(SANDBOX)).out.splitlines()
            told = [line for line in lines if line.startswith(("2026-11-29T", "gateway"))]
            assert told[0] == (
                "2026-11-29T04:00:00.000Z denied_by_plan GET https://api.example.com:443/1: no route claims this"
                " (nearest: route, but path differs)"
            )
            assert told[1] == "2026-11-29T04:00:00.000Z denied_by_plan /2"
            assert told[2].startswith("gateway gw_2 ")
            shown = (await ask(SANDBOX, "--json")).out
            assert len(json.loads(shown[shown.index("{\n") :])["items"]) == 2
        assert (await ask("sbx_none")).status == 2


def test_following_goes_on_at_the_cursor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pages: list[dict[str, Any]] = [
        {"items": [told_denial(f"/{number}")], "nextCursor": f"{NAME}-{number}", "gateways": []} for number in (1, 2)
    ]
    with scripted_http() as control:
        path = f"/v1/sandboxes/{SANDBOX}/denials"
        control.answer(f"{path}?limit=50", pages[0])
        control.answer(f"{path}?cursor={NAME}-1&limit=200", pages[1])
        (tmp_path / "key").write_text("t")
        looks = iter([None, KeyboardInterrupt()])

        def sleep(_: float) -> None:
            found = next(looks)
            if found is not None:
                raise found

        monkeypatch.setattr("time.sleep", sleep)
        told = call(
            capsys, "denials", SANDBOX, "--follow", "--json", "--control", control.url, "--token-file", tmp_path / "key"
        )
        assert told.status == 0
        assert [json.loads(line)["path"] for line in told.out.splitlines()] == ["/1", "/2"]
