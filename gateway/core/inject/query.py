"""A credential that is written as a query parameter, and parameters that are taken out.

What is not taken out is forwarded byte for byte: signed URLs must survive (P10).
"""

import re
from binascii import a2b_qp
from itertools import accumulate
from typing import Final
from urllib.parse import quote

from gateway.core.authority import Refused
from gateway.core.errors import too_many_escapes, too_many_parameters
from sallyport.request_path import MAX_ESCAPES
from sallyport.secret import Secret

# PHP and ASP.NET read no more. A query of 64 KiB can hold as many as it has bytes, and looking at each of those takes
# the loop a tenth of a second.
MAX_PARAMETERS: Final = 1000

_SEPARATOR: Final = re.compile(rb"([&;])")
_VALUE: Final = re.compile(rb"=[^&;]*")
_NO_ESCAPE: Final = re.compile(rb"%(?![0-9a-fA-F]{2})")
# How ASP.NET before Core, and ASP before that, read a code unit of UTF-16.
_UNIT: Final = re.compile(rb"%u([0-9a-fA-F]{4})")
# PHP reads a space or a dot as an underscore.
_FOLDS: Final = bytes.maketrans(b" .ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"__abcdefghijklmnopqrstuvwxyz")
_BRACKET: Final = re.compile(rb"([\[\]])")
# A name of 64 KiB of brackets must not cost a look at each; three levels of a table are more than any configured one.
_MAX_BRACKETS: Final = 8


def query_pair(parameter: str, secret: Secret) -> bytes:
    """Return `parameter=secret`, percent-encoded (RFC 3986 section 2.1)."""
    return b"%b=%b" % (quote(parameter, safe="").encode("ascii"), quote(secret.reveal(), safe="").encode("ascii"))


def check_parameters(query: bytes) -> None:
    """Refuse a query with more parameters, or more escapes in their names, than are looked at one by one."""
    if query.count(b"&") + query.count(b";") >= MAX_PARAMETERS:
        raise Refused(too_many_parameters(MAX_PARAMETERS))
    if query.count(b"%") > MAX_ESCAPES and _VALUE.sub(b"", query).count(b"%") > MAX_ESCAPES:
        raise Refused(too_many_escapes(MAX_ESCAPES))


def unescaped(text: bytes) -> bytes:
    """Undo percent-encoding; what is no escape stays.

    The same as urllib.parse.unquote_to_bytes, which takes the loop 20 ms for 64 KiB of `%`.
    """
    if b"%" not in text:
        return text
    if b"%%" in text:
        text = text.replace(b"%%", b"%25%").replace(b"%%", b"%25%")  # as _NO_ESCAPE would, but at once
    text = _NO_ESCAPE.sub(b"%25", text)
    # Quoted-printable (RFC 2045 section 6.7) is the same with another sign, and is read in C.
    return a2b_qp(text.replace(b"=", b"%3D").replace(b"%", b"="))


def strip_query(query: bytes, parameters: frozenset[str]) -> bytes:
    """Take every spelling of parameters out of query (P9): percent-encoded, repeated, after `;` as after `&`.

    A name counts as spelled that way when a common framework reads it as the same parameter, because one that the
    sandbox wrote could else stand in for ours, or be added to it:
    - in any case of its letters (ASP.NET);
    - with spaces before it, with a space, a dot or an unclosed `[` for an underscore, cut at a NUL (PHP);
    - with what makes it a list or a table behind it, `api_key[]`, `api_key[a]` (PHP, Rack, qs), or in brackets of its
      own, `[api_key]` (Rack, qs);
    - with `%u0061` for a letter (ASP.NET before Core).
    A `+` is a space in a name. Nothing else is touched: `api-key`, `api_key_2` and `xapi_key` are other parameters.
    """
    names = frozenset([_folded(parameter.encode("utf-8")) for parameter in parameters])
    has_brackets = _BRACKET.search(b"".join(names)) is not None
    pieces = _SEPARATOR.split(query)
    kept: list[bytes] = []
    for index in range(0, len(pieces), 2):
        if _is_one_of(names, _name_in(pieces[index]), has_brackets):
            continue
        if kept:
            kept.append(pieces[index - 1])
        kept.append(pieces[index])
    return b"".join(kept) if len(kept) < len(pieces) else query


def _name_in(piece: bytes) -> bytes:
    """Return the decoded name of one parameter, folded."""
    name = piece.partition(b"=")[0].replace(b"+", b" ")
    if b"%" in name:
        name = unescaped(_UNIT.sub(_unit, name) if b"%u" in name else name)
    return _folded(name)


def _unit(found: re.Match[bytes]) -> bytes:
    # Half of a pair is no letter of anybody's parameter.
    return chr(int(found[1], 16)).encode("utf-8", "surrogatepass")


def _folded(name: bytes) -> bytes:
    """Return what all spellings of a name have in common, brackets left out of account."""
    name = name.partition(b"\0")[0].lstrip(b" ").translate(_FOLDS)
    if name.isascii():
        return name
    return name.decode("utf-8", "surrogateescape").casefold().encode("utf-8", "surrogateescape")


def _is_one_of(names: frozenset[bytes], name: bytes, has_brackets: bool) -> bool:
    """Whether a folded name is one of these, with brackets or without; has_brackets says that one of these has some."""
    if name in names:
        return True
    if b"[" not in name and b"]" not in name:
        return False
    if name.replace(b"[", b"_") in names:
        return True
    name = name.lstrip(b"[]")
    if name.replace(b"]", b"[").partition(b"[")[0] in names:
        return True
    # A configured name with brackets does not end at the first, and what stands behind the last is nothing to PHP.
    return has_brackets and not names.isdisjoint(accumulate(_BRACKET.split(name, _MAX_BRACKETS)))


def with_pair(query: bytes | None, pair: bytes) -> bytes:
    """Append pair to a query."""
    return query + b"&" + pair if query else pair
