"""Absolute URLs as a plan and `explain` write them; strict, because the gateway dials what they name."""

import re
from typing import NamedTuple

from sallyport.destination import DEFAULT_PORTS, Destination
from sallyport.host import HostError, split_authority

_SHAPE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)(?:\?([^#]*))?(#.*)?")
_VISIBLE = re.compile(r"[!-~]*")
_WEB_SOCKET_SCHEMES = {"ws": "http", "wss": "https"}


class UrlError(ValueError):
    """Not a URL we accept. The message never repeats the input."""


class Url(NamedTuple):
    """An absolute URL in parts: `path` is "" when absent, `query` has no "?", and neither is canonicalised."""

    destination: Destination
    path: str
    query: str | None


def split_url(text: str) -> Url:
    """Split an http, https, ws or wss URL; ws and wss give the http and https destination they begin on.

    Userinfo and fragments are refused, and so is everything that is not visible ASCII.
    """
    shape = _SHAPE.fullmatch(text)
    if shape is None or _VISIBLE.fullmatch(text) is None:
        raise UrlError("an absolute URL of visible ASCII characters is expected, for example https://api.example.com")
    scheme, authority, path, query, fragment = shape.groups()
    scheme = _WEB_SOCKET_SCHEMES.get(scheme.lower(), scheme.lower())
    if scheme not in DEFAULT_PORTS:
        raise UrlError("the scheme must be http, https, ws or wss")
    if fragment is not None:
        raise UrlError("a fragment is not allowed")
    try:
        host, port = split_authority(authority, DEFAULT_PORTS[scheme])
    except HostError as error:
        raise UrlError(str(error)) from None
    return Url(Destination(scheme, host, port), path, query)
