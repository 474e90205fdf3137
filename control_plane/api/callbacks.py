"""`/p/integration/oauth|redirect/callback`: where a browser comes back to. No token: the state alone is the proof.

What it is answered is a page for people; nothing that came with the request stands in it.
"""

import html
from typing import Final

from fastapi import APIRouter, Request, Response

from control_plane.api.parts import PartsOf
from control_plane.authorizations import OAUTH_CALLBACK, REDIRECT_CALLBACK
from control_plane.refusals import ControlCode, Refused

router = APIRouter()

# Providers send a few hundred bytes; a head is 64 KiB at most.
MAX_PARAMETERS: Final = 50

_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",  # the code and the state stand in this page's URL
    "X-Content-Type-Options": "nosniff",
}
_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:32em;margin:15vh auto;padding:0 1em}}</style>
<h1>{title}</h1>
<p>{text}</p>
<p><a href="/page/connections">To the connections</a></p>
</html>
"""


@router.get(OAUTH_CALLBACK, response_class=Response)
async def oauth_callback(request: Request, parts: PartsOf) -> Response:
    """Take a member back who authorised a connection, or did not."""
    try:
        query = _query(request)
        state = query.get("state", "")
        if "code" not in query:
            raise await parts.authorizations.give_up(state, query.get("error", ""), parts.now())
        made = await parts.authorizations.complete_oauth(state, query["code"], parts.now())
    except Refused as refused:
        return _refused_page(refused)
    return _made_page(made)


@router.get(REDIRECT_CALLBACK, response_class=Response)
async def redirect_callback(request: Request, parts: PartsOf) -> Response:
    """Take a member back from a redirect that is no OAuth."""
    try:
        query = _query(request)
        state = parts.authorizations.state_of(query) or ""
        made = await parts.authorizations.complete_redirect(state, query, parts.now())
    except Refused as refused:
        return _refused_page(refused)
    return _made_page(made)


def _query(request: Request) -> dict[str, str]:
    """Return the parameters, each of which may stand there once."""
    pairs = request.query_params.multi_items()
    found = dict(pairs)
    if len(found) != len(pairs) or len(pairs) > MAX_PARAMETERS:
        raise Refused(ControlCode.INVALID_REQUEST, "a parameter stands there twice")
    return found


def _made_page(made: dict[str, object]) -> Response:
    name = made.get("displayName", made["connectionId"])
    text = f"{name} is connected to {made['targetKey']}. You may close this window."
    return _page(200, "Connected", text)


def _refused_page(refused: Refused) -> Response:
    details = "; ".join([refused.detail, *(issue.message for issue in refused.issues)])
    return _page(refused.code.status, "Not connected", f"{refused.code.title}: {details}.")


def _page(status: int, title: str, text: str) -> Response:
    body = _PAGE.format(title=html.escape(title), text=html.escape(text))
    return Response(body, status, _HEADERS, media_type="text/html")
