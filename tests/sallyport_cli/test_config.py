import pytest

from sallyport_cli.config import inherited, without_settings


def test_it_is_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMETHING", "1")
    copy = inherited()
    assert copy["SOMETHING"] == "1"
    copy["SOMETHING"] = "2"
    assert inherited()["SOMETHING"] == "1"


def test_settings_of_a_gateway_are_taken_out() -> None:
    assert without_settings({"SALLYPORT_PLANS": "a", "PATH": "/bin"}) == {"PATH": "/bin"}
