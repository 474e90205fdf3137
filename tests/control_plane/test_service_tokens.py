import asyncio
import os
import stat
from pathlib import Path

import pytest

from control_plane import service_tokens
from control_plane.foundation import Foundation
from control_plane.service_tokens import CALLERS, SERVICE_SECONDS, TokenFiles, token_file
from sallyport.claims import AUDIENCE_CONTROL
from tests.support.control_plane import NOW
from tests.support.until import until


async def test_each_caller_has_a_file_of_its_own(base: Foundation, tmp_path: Path) -> None:
    await TokenFiles(tmp_path, base.ring, lambda: NOW).write()
    for caller in CALLERS:
        path = token_file(tmp_path, caller)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        claims = await base.ring.verify(path.read_text().strip(), AUDIENCE_CONTROL, NOW)
        assert (claims.sandbox_id, claims.expires_at) == (caller, NOW + SERVICE_SECONDS)
    assert token_file(tmp_path, "gateway").name == "service-token.gateway"
    assert len([name for name in os.listdir(tmp_path) if "token" in name]) == len(CALLERS)


async def test_they_are_written_again_before_they_end(
    base: Foundation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_tokens, "FRESH_SECONDS", 0.001)
    monkeypatch.setattr(service_tokens, "AGAIN_SECONDS", 0.001)
    folder = tmp_path / "later"  # not there at first: a failure is tried again
    files = TokenFiles(folder, base.ring, lambda: NOW)
    with pytest.raises(OSError, match="No such file"):
        await files.write()
    task = asyncio.get_running_loop().create_task(files.keep_fresh())
    await asyncio.sleep(0)
    folder.mkdir()
    await until(lambda: all(token_file(folder, caller).exists() for caller in CALLERS))
    before = token_file(folder, "cli").read_text()
    await until(lambda: token_file(folder, "cli").read_text() != before)
    task.cancel()
    await asyncio.wait([task])
