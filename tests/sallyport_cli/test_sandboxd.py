"""`sallyport sandboxd` beside the other commands; the daemon itself is tests/sandboxd/test_app.py."""

import pytest

from tests.support.command import call


def test_help_is_the_command_line_s(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = call(capsys, "sandboxd", "--help")
    assert outcome.status == 0
    assert "SALLYPORT_GATEWAY_URL" in outcome.out


def test_settings_that_are_missing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SALLYPORT_GATEWAY_URL", raising=False)
    outcome = call(capsys, "sandboxd")
    assert outcome.status == 2
    assert "SALLYPORT_TOKEN_FILE: is needed" in outcome.err
