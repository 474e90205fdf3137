"""The injected query parameter, and what is taken out for it (egress cases P9, P10)."""

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.authority import Refused
from gateway.core.inject.query import (
    MAX_PARAMETERS,
    check_parameters,
    query_pair,
    strip_query,
    unescaped,
    with_pair,
)
from sallyport.problem import Code
from sallyport.request_path import MAX_ESCAPES
from sallyport.secret import Secret

NAMES = frozenset({"api_key"})


@pytest.mark.parametrize(
    ("query", "left"),
    [
        (b"api_key=x", b""),
        (b"api_key", b""),
        (b"api_key=", b""),
        (b"a=1&api_key=x", b"a=1"),
        (b"api_key=x&a=1", b"a=1"),
        (b"a=1&api_key=x&b=2", b"a=1&b=2"),
        (b"a=1;api_key=x;b=2", b"a=1;b=2"),
        (b"a=1;api_key=x&b=2", b"a=1&b=2"),
        (b"a=1&api_key=x;b=2", b"a=1;b=2"),
        (b"api_key=x&api_key=y&api_key=z", b""),
        (b"%61pi_key=x", b""),
        (b"%61%70%69%5f%6b%65%79=x", b""),
        (b"%61%70%69%5F%6B%65%79=x", b""),
        (b"api%5fkey=x&a=%61pi_key", b"a=%61pi_key"),
        (b"api_key=a=b=c&d", b"d"),
        (b"&&api_key=x&&", b"&&&"),
        (b"?api_key=x&api_key=y", b"?api_key=x"),
        # ASP.NET
        (b"API_KEY=x&Api_Key=y&a=1", b"a=1"),
        (b"%41PI_KEY=x", b""),
        (b"%u0061pi%u005Fkey=x&%u0041PI_KEY", b""),
        # PHP
        (b"api.key=x&api+key=x&api%20key=x&api%2ekey=x&api[key=x&API%5bKEY", b""),
        (b"+api_key=x&%20+api_key=x", b""),
        (b"api_key%00=x&api_key%00y=x&+Api.Key%00[]", b""),
        # PHP, Rack, qs
        (b"api_key[]=x&api_key%5B%5D=x&api_key[a][b]=x&api_key[=x&api_key]=x", b""),
        (b"[api_key]=x&[[api_key]=x&%5BAPI_KEY%5D[]=x", b""),
    ],
)
def test_p9_every_spelling_is_taken_out(query: bytes, left: bytes) -> None:
    assert strip_query(query, NAMES) == left


@pytest.mark.parametrize(
    "query",
    [
        b"",
        b"&",
        b"=",
        b"=api_key",
        b"&=&;=;",
        b"a=api_key",
        b"a=1&b=2;c",
        b"xapi_key=x",
        b"api_keyx=x",
        b"apikey=x&api-key=x&api__key=x&_api_key=x&api_key_=x&api_key+=x",
        b"api_key.=x&.api_key=x&api_key%0D=x&%09api_key=x&api_key%25=x",
        b"api[key]=x&api[]=x&key[api_key]=x&[]=x&[=x&]=x&api_k[]ey=x",
        b"%00api_key=x&%00=x",
        b"%U0061pi_key=x&%u006=x&%25u0061pi_key=x&%ud83d=x",
        b"%uff21pi_key=x&\xef\xbd\x81pi_key=x&%ef%bd%81pi_key=x",  # fullwidth
        b"api_key%3Dx=y",
        b"%2561pi_key=x",  # double encoding stays literal (P1)
        b"%C1%A1pi_key=x",  # overlong UTF-8 is not what it imitates
        b"%61pi_ke%79%=x",
        b"%zzapi_key=x",
        b"api_key%=x",
        b"%6=x",
        b"%",
        b"X-Amz-Signature=a%2Bb+c%2f/d%2F~&X-Amz-Date=1",
        b"q=%e4%C3%A4+%20&&x=?/",
    ],
)
def test_p10_anything_else_stays_byte_for_byte(query: bytes) -> None:
    assert strip_query(query, NAMES) == query


def test_p9_a_plus_is_a_space_in_a_name() -> None:
    assert strip_query(b"api+key=1&api%20key=2&api%2Bkey=3", frozenset({"api key"})) == b"api%2Bkey=3"
    assert strip_query(b"api+key=1&api%2Bkey=3", frozenset({"api+key"})) == b"api+key=1"


def test_p9_a_name_that_is_spelled_oddly_itself() -> None:
    assert strip_query(b"Api-Key=1&api_key=2&API-KEY=3", frozenset({"API-Key"})) == b"api_key=2"
    assert strip_query(b"api_key=1&api.key=2&a=3", frozenset({"api.key"})) == b"a=3"
    query = b"auth[token]=1&AUTH%5btoken%5d[]=2&auth[user]=3&auth=4&auth[token=5"
    assert strip_query(query, frozenset({"auth[token]"})) == b"auth[user]=3&auth=4&auth[token=5"
    assert strip_query(b"auth[token]x=1&auth[tokens]=2", frozenset({"auth[token]"})) == b"auth[tokens]=2"  # PHP


def test_a_name_of_brackets_alone_costs_no_more_than_any_other() -> None:
    query = b"a" + b"[" * 60_000
    assert strip_query(query, NAMES) == query
    assert strip_query(b"api_key" + b"[" * 60_000, NAMES) == b""


@pytest.mark.parametrize("separator", [b"&", b";"])
def test_p9_s10_more_parameters_than_are_looked_at_are_refused(separator: bytes) -> None:
    check_parameters(separator.join([b"a=1"] * MAX_PARAMETERS))
    with pytest.raises(Refused) as caught:
        check_parameters(separator * MAX_PARAMETERS)
    assert caught.value.deny.code is Code.INVALID_REQUEST


def test_p9_s10_more_escapes_in_names_than_are_read_are_refused() -> None:
    check_parameters(b"&".join([b"%61=" + b"%62" * 9] * 500) + b";" + b"%61" * (MAX_ESCAPES - 500) + b"=%")
    with pytest.raises(Refused) as caught:
        check_parameters(b"&".join([b"%61=" + b"%62" * 9] * 500) + b";" + b"%" * (MAX_ESCAPES - 499) + b"=%")
    assert caught.value.deny.code is Code.INVALID_REQUEST


@given(st.lists(st.sampled_from([b"%", b"%%", b"%6", b"1", b"%41", b"%fF", b"=", b"=3D", b"\r", b"\n", b"\xff", b" "])))
def test_what_is_no_escape_stays(pieces: list[bytes]) -> None:
    text = b"".join(pieces)
    assert unescaped(text) == unquote_to_bytes(text)


def test_p9_a_name_beyond_ascii_and_several_names() -> None:
    assert strip_query(b"SCHL%C3%9CSSEL=1&schl%u00fcssel=2&schl%FCssel=3", frozenset({"schlüssel"})) == b"schl%FCssel=3"
    assert strip_query("schlüssel=1&a=2&schl%C3%BCssel=3&b=4".encode(), frozenset({"schlüssel", "b"})) == b"a=2"


def test_the_pair_is_percent_encoded() -> None:
    assert query_pair("api_key", Secret(b"aZ09-._~")) == b"api_key=aZ09-._~"
    assert query_pair("clé&", Secret(b"a b&c=d+e/\xff#%")) == b"cl%C3%A9%26=a%20b%26c%3Dd%2Be%2F%FF%23%25"


@pytest.mark.parametrize(
    ("query", "result"), [(None, b"k=v"), (b"", b"k=v"), (b"a=1", b"a=1&k=v"), (b"a=1&", b"a=1&&k=v")]
)
def test_the_pair_is_appended(query: bytes | None, result: bytes) -> None:
    assert with_pair(query, b"k=v") == result


PIECES = st.sampled_from(
    [
        b"a=1",
        b"a",
        b"=",
        b"",
        b"%61",
        b"b=%61",
        b"k=2",
        b"%6B=3",
        b"%6b",
        b"k",
        b"kk=1",
        b"%256B=1",
        b"+k=1",
        b"K=1",
        b"k[]=1",
        b"k%00",
        b"k%",
        b"\xff",
    ]
)
SEPARATORS = st.sampled_from([b"&", b";"])


def parameters_of(query: bytes) -> list[bytes]:
    """What any server may find of these pieces: the names as it reads them, whichever separators it knows."""
    pieces = query.replace(b";", b"&").split(b"&")
    names = [unquote_to_bytes(piece.partition(b"=")[0].replace(b"+", b" ")) for piece in pieces]
    return [name.lower().strip(b" \0").removesuffix(b"[]") for name in names]


@given(st.lists(st.tuples(PIECES, SEPARATORS), max_size=6))
def test_p9_p10_nothing_named_so_is_left_and_nothing_else_is_lost(parts: list[tuple[bytes, bytes]]) -> None:
    query = b"".join(piece + separator for piece, separator in parts)[:-1]
    left = strip_query(query, frozenset({"k"}))
    assert b"k" not in parameters_of(left)
    others = [name for name in parameters_of(query) if name != b"k"]
    assert parameters_of(left) == (others or [b""])
    if b"k" not in parameters_of(query):
        assert left == query
