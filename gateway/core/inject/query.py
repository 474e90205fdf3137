"""A credential that is written as a query parameter, and parameters that are taken out.

What is not taken out is forwarded byte for byte: signed URLs must survive (P10).
"""

import re
from urllib.parse import quote, unquote_to_bytes

from sallyport.secret import Secret

_SEPARATOR = re.compile(rb"([&;])")


def query_pair(parameter: str, secret: Secret) -> bytes:
    """Return `parameter=secret`, percent-encoded (RFC 3986 section 2.1)."""
    return b"%b=%b" % (quote(parameter, safe="").encode("ascii"), quote(secret.reveal(), safe="").encode("ascii"))


def strip_query(query: bytes, parameters: frozenset[str]) -> bytes:
    """Take every spelling of parameters out of query (P9): percent-encoded, repeated, after `;` as after `&`.

    A name counts as spelled that way when it decodes to it, with `+` read as a space.
    """
    names = {parameter.encode("utf-8") for parameter in parameters}
    pieces = _SEPARATOR.split(query)
    kept: list[bytes] = []
    for index in range(0, len(pieces), 2):
        name = pieces[index].partition(b"=")[0].replace(b"+", b" ")
        if unquote_to_bytes(name) in names:
            continue
        if kept:
            kept.append(pieces[index - 1])
        kept.append(pieces[index])
    return b"".join(kept) if len(kept) < len(pieces) else query


def with_pair(query: bytes | None, pair: bytes) -> bytes:
    """Append pair to a query."""
    return query + b"&" + pair if query else pair
