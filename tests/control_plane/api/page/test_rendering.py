import re

import jinja2
import pytest

from control_plane.api.page.rendering import FOLDER, LIVE_POLICY, SCRIPT, STYLE, fragment, render, see_other


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
        text = path.read_text()
        if path.name == "sandboxes_denials.html":
            text = text.replace('<script src="/page/live.js" defer></script>', "", 1)
        found = re.findall(r"\|\s*safe|autoescape|<script|<style|\sstyle=|\son[a-z]+=|javascript:", text)
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


def test_a_live_page_runs_our_script_and_nothing_else() -> None:
    policy = render("login.html", policy=LIVE_POLICY, refused=None).headers["content-security-policy"]
    assert policy.split("; ")[-2:] == ["script-src 'self'", "connect-src 'self'"]
    assert "unsafe" not in policy
    assert not re.search(rb"eval|Function|document\.write|https?:", SCRIPT)


def test_parts_of_a_page_are_escaped_as_a_page_is() -> None:
    gateways = [{"id": "<b>", "state": "away", "reason": "<i>"}]
    assert not {"<b>", "<i>"} & set(re.findall(r"<[a-z]+>", fragment("denials_gateways.html", gateways=gateways)))
