import json

import pytest

from sallyport_cli.failure import bad_input
from sallyport_cli.output import counted, own_fault, show_failure, show_table


def test_failure_as_text_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    show_failure(bad_input("what", "one\ntwo"), as_json=False)
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "error: what\n  one\n  two\n")


def test_failure_as_json_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    show_failure(bad_input("what", "do"), as_json=True)
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"error": {"status": 2, "message": "what", "hint": "do"}}
    assert printed.err == ""


def test_nothing_in_a_table_is_markup(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(["a"], [["[red]x[/red]"]])
    assert "[red]x[/red]" in capsys.readouterr().out


def test_own_fault_names_the_place_and_not_the_text() -> None:
    def culprit() -> None:
        raise ValueError("sk-secret")

    with pytest.raises(ValueError, match="sk-secret") as caught:
        culprit()
    failure = own_fault(caught.value)
    assert "ValueError" in failure.message
    assert "culprit" in failure.message
    assert "sk-secret" not in failure.message + failure.hint


@pytest.mark.parametrize(("number", "text"), [(0, "0 routes"), (1, "1 route"), (2, "2 routes")])
def test_numbers_agree_with_their_noun(number: int, text: str) -> None:
    assert counted(number, "route") == text
