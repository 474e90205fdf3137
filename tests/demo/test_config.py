"""A machine that is not prepared is told what is missing and what to do."""

from pathlib import Path

import pytest

from demo import config


def test_a_missing_environment_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "_ROOT", tmp_path)
    with pytest.raises(config.NotPrepared, match=r"\.venv-clients: openai; .*node 24.*`make setup`"):
        config.find_prepared()


def test_a_client_gets_nothing_of_the_user_s_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_VARIABLE_OF_THE_USER", "x")
    prepared = config.Prepared(
        sallyport=Path("s"), curl="c", git="g", python=Path("p"), node=Path("n"), search_path="/bin"
    )
    environment = config.client_environment(prepared, Path("/home/x"), {"ALSO": "1"})
    assert environment == {"PATH": "/bin", "HOME": "/home/x", "LANG": "C.UTF-8", "ALSO": "1"}
