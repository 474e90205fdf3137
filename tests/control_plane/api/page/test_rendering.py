import re

import jinja2
import pytest

from control_plane.api.page.rendering import FOLDER, STYLE, render, see_other


def test_everything_is_escaped() -> None:
    problem = {"title": "<script>a</script>", "detail": "\"'><img src=x onerror=b>"}
    answer = render("problem.html", 418, problem=problem, request_id="<i>")
    body = bytes(answer.body).decode()
    assert answer.status_code == 418
    assert not {"<script", "<img", "<i>"} & set(re.findall(r"<[a-z]+>?", body))


def test_a_template_s_misspelling_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError):
        render("problem.html", problem={}, request_id="x")


def test_no_template_turns_escaping_off_or_holds_what_the_policy_forbids() -> None:
    for path in FOLDER.glob("*.html"):
        found = re.findall(r"\|\s*safe|autoescape|<script|<style|\sstyle=|\son[a-z]+=|javascript:", path.read_text())
        assert (path.name, found) == (path.name, [])
    assert b"url(" not in STYLE
    assert b"@import" not in STYLE


def test_every_answer_keeps_the_browser_from_helping_an_attacker() -> None:
    for answer in (render("login.html", refused=None), see_other("/page/login")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "form-action 'self'" in policy
        assert "script" not in policy
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
