import re
from pathlib import Path

import pytest

from sallyport.plan.issue_codes import IssueCode

PAGE = (Path(__file__).parents[3] / "docs" / "runtime-plan.md").read_text("utf-8")


@pytest.mark.parametrize("code", IssueCode)
def test_every_issue_code_is_documented(code: IssueCode) -> None:
    assert f"| `{code.value}` |" in PAGE


def test_every_documented_issue_code_exists() -> None:
    table = PAGE.partition("## Issues")[2]
    assert {match[1] for match in re.finditer(r"^\| `([a-z0-9_]+)` \|", table, re.MULTILINE)} == set(IssueCode)
