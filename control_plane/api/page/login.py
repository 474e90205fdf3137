"""In and out."""

from typing import Final

from fastapi import APIRouter, Request, Response

from control_plane import page_sessions
from control_plane.api.page.rendering import render, see_other
from control_plane.api.page.visit import COOKIE, PostedForm, Visitor, read_form
from control_plane.api.parts import Parts, PartsOf
from control_plane.page_sessions import SESSION_SECONDS
from control_plane.refusals import ControlCode, Refused

router = APIRouter()

_PATH: Final = "/page"


@router.get("/login", response_class=Response)
async def show_login() -> Response:
    """Ask for a key."""
    return render("login.html", refused=None)


@router.post("/login", response_class=Response)
async def log_in(request: Request, parts: PartsOf) -> Response:
    """Begin a session."""
    form = await read_form(request, parts)
    now = parts.now()
    try:
        cookie = await page_sessions.begin(parts.database, form.text("key"), now)
    except Refused as refused:
        if refused.code is not ControlCode.UNAUTHORIZED:
            raise
        parts.rates.count_failure("" if request.client is None else request.client.host, now)
        return render("login.html", refused.code.status, refused=refused.detail)
    answer = see_other(f"{_PATH}/targets")
    _set_cookie(answer, parts, cookie, SESSION_SECONDS)
    return answer


@router.post("/logout", response_class=Response)
async def log_out(here: Visitor, form: PostedForm) -> Response:
    """End the session."""
    await page_sessions.end(here.parts.database, here.request.cookies[COOKIE])
    answer = see_other(f"{_PATH}/login")
    _set_cookie(answer, here.parts, "", 0)
    return answer


def _set_cookie(answer: Response, parts: Parts, value: str, seconds: int) -> None:
    answer.set_cookie(
        COOKIE,
        value,
        max_age=seconds,
        path=_PATH,
        secure=parts.public_url.startswith("https:"),
        httponly=True,
        samesite="strict",
    )
