"""Templates to answers: all of it escaped, and each with the headers that keep a browser from helping an attacker."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import jinja2
import markupsafe
from fastapi import Response

from control_plane.api.page.fields import sentence

FOLDER: Final = Path(__file__).parent / "templates"
STYLE: Final = (FOLDER / "page.css").read_bytes()

# The one script there is: what makes a list follow what comes in.
SCRIPT: Final = (FOLDER / "live.js").read_bytes()

# No script at all, no frame, nothing from elsewhere; forms go nowhere but here.
POLICY: Final = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
# Of a page that goes on by itself: our script, which asks this host alone.
LIVE_POLICY: Final = f"{POLICY}; script-src 'self'; connect-src 'self'"

HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": POLICY,
    # Not `no-referrer`: with that, browsers send `Origin: null` with forms, which are then refused.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def _when(seconds: int) -> markupsafe.Markup:
    return markupsafe.Markup("<time>{}</time>").format(
        datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
    )


def _listed(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["when"] = _when
    environment.filters["sentence"] = sentence
    environment.filters["listed"] = _listed
    return environment


_ENVIRONMENT: Final = _environment()


def render(template: str, status: int = 200, *, policy: str = POLICY, **context: object) -> Response:
    """Return a page."""
    headers = {**HEADERS, "Content-Security-Policy": policy}
    return Response(fragment(template, **context), status, headers, media_type="text/html")


def fragment(template: str, **context: object) -> str:
    """Return what a template makes: a page, or a part of one."""
    return _ENVIRONMENT.get_template(template).render(context)


def see_other(url: str) -> Response:
    """Send the browser to another of our pages, by GET."""
    return Response(status_code=303, headers={**HEADERS, "Location": url})
