"""Templates to answers: all of it escaped, and each with the headers that keep a browser from helping an attacker."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import jinja2
from fastapi import Response

FOLDER: Final = Path(__file__).parent / "templates"
STYLE: Final = (FOLDER / "page.css").read_bytes()

HEADERS: Final[Mapping[str, str]] = {
    # No script at all, no frame, nothing from elsewhere; forms go nowhere but here.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    # Not `no-referrer`: with that, browsers send `Origin: null` with forms, which are then refused.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def _when(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["when"] = _when
    return environment


_ENVIRONMENT: Final = _environment()


def render(template: str, status: int = 200, **context: object) -> Response:
    """Return a page."""
    body = _ENVIRONMENT.get_template(template).render(context)
    return Response(body, status, HEADERS, media_type="text/html")


def see_other(url: str) -> Response:
    """Send the browser to another of our pages, by GET."""
    return Response(status_code=303, headers={**HEADERS, "Location": url})
