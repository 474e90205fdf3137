import ast
import pathlib
import sys

import pytest

from sallyport_cli import main


def test_an_old_python_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2, "final", 0))
    with pytest.raises(SystemExit) as left:
        main.run()
    assert left.value.code == 3
    told = capsys.readouterr().err
    assert "Python 3.9" in told
    assert "install Python 3.13" in told


@pytest.mark.parametrize("minor", [5, 8, 11])
def test_an_old_python_can_parse_it(minor: int) -> None:
    ast.parse(pathlib.Path(main.__file__).read_text(encoding="utf-8"), feature_version=(3, minor))


def test_it_leaves_with_the_status_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["sallyport", "nothing"])
    with pytest.raises(SystemExit) as left:
        main.run()
    assert left.value.code == 2
