"""A placeholder is replaced in the parts that a route names and nowhere else (egress cases C5, C6, C14)."""

import pytest

from gateway.core.inject.placeholder import Replacement
from sallyport.secret import Secret

VALUE = b"sp-placeholder-1"
SECRET = b"s3cr/t+ \xe9%"
ENCODED = b"s3cr%2Ft%2B%20%E9%25"
LINES = [b"X-A: Bearer " + VALUE, b"X-B: b", b"X-C:" + VALUE + VALUE]


def replacement(*parts: str) -> Replacement:
    return Replacement(VALUE, frozenset(parts), Secret(SECRET))


def test_in_header_values() -> None:
    lines = replacement("header").in_lines(LINES)
    assert lines == [b"X-A: Bearer " + SECRET, b"X-B: b", b"X-C:" + SECRET + SECRET]


def test_c6_never_in_a_header_name() -> None:
    lines = [VALUE + b": x", b"X-" + VALUE + b": " + VALUE]
    assert replacement("header").in_lines(lines) == [VALUE + b": x", b"X-" + VALUE + b": " + SECRET]


def test_in_path_and_query_percent_encoded() -> None:
    assert replacement("path").in_path(b"/v1/" + VALUE + b"/x") == b"/v1/" + ENCODED + b"/x"
    assert replacement("query").in_query(b"a=" + VALUE + b"&b=1") == b"a=" + ENCODED + b"&b=1"
    assert replacement("query").in_query(None) is None


def test_in_path_and_query_however_it_is_encoded() -> None:
    only = Replacement(b"${A_%}.x", frozenset(("path", "query")), Secret(SECRET))
    assert only.in_path(b"/%24%7BA_%25%7D.x/%24{A_%}%2Ex/${a_%}.x") == b"/%b/%b/${a_%%}.x" % (ENCODED, ENCODED)
    assert only.in_query(b"a=%24%7b%41_%25%7d%2ex&%2524{A_%}.x") == b"a=%b&%%2524{A_%%}.x" % ENCODED


@pytest.mark.parametrize("part", ["header", "path", "query"])
def test_c6_other_parts_are_left_alone(part: str) -> None:
    only = replacement(part)
    changed = {
        "header": only.in_lines(LINES) != LINES,
        "path": only.in_path(b"/" + VALUE) != b"/" + VALUE,
        "query": only.in_query(b"a=" + VALUE) != b"a=" + VALUE,
    }
    assert changed == {name: name == part for name in changed}


def test_c14_it_is_never_printed() -> None:
    assert repr(replacement("header")) == str(replacement("path")) == "<Replacement>"
