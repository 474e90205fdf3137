"""Which token is shown, when the next one is asked for, what answers change."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sallyport.wire.errors import RemoteProtocolError
from sandboxd.core.renewal import (
    ANSWER_SECONDS,
    LONG_RETRY_SECONDS,
    RETRY_SECONDS,
    Bearer,
    Kind,
    Renewal,
    Tokens,
    from_strings,
    read_token_file,
)

NOW = 1_800_000_000.0


def jwt(ends_at: object, name: str = "t") -> str:
    payload = json.dumps({"exp": ends_at, "jti": name}).encode()
    return f"e30.{base64.urlsafe_b64encode(payload).decode().rstrip('=')}.sig"


def held(*, token_seconds: float = 900, renewal_seconds: float = 86400) -> Renewal:
    renewal = Renewal()
    renewal.bring(
        Tokens(
            token="tunnel",
            expires_at=NOW + token_seconds,
            renewal="renewal",
            renewal_expires_at=NOW + renewal_seconds,
        ),
        NOW,
    )
    return renewal


def answer(name: str, seconds: int = 900, request_id: str = "r1") -> dict[str, object]:
    return {
        "type": "token.response",
        "requestId": request_id,
        "token": name,
        "expiresAt": int(NOW) + seconds,
        "renewalToken": f"{name}-renewal",
        "renewalExpiresAt": int(NOW) + 86400,
    }


# ---- the file


@pytest.mark.parametrize(
    ("content", "token", "renewal"),
    [
        (b"abc\n", "abc", ""),
        (b'{"token": "abc"}', "abc", ""),
        (b' {"token": "abc", "renewalToken": "def"}\n', "abc", "def"),
        (b'{"renewalToken": "def"}', "", "def"),
    ],
)
def test_both_forms_of_the_file(content: bytes, token: str, renewal: str) -> None:
    tokens = read_token_file(content)
    assert (tokens.token, tokens.renewal) == (token, renewal)
    assert "abc" not in repr(tokens)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" \n",
        b"two canaries",
        b"{canary",
        b'{"canary": 1}',
        b'{"token": ""}',
        b"canary\xff",
        b"[1]x y",
        b"c" * 9000,
    ],
)
def test_a_file_that_holds_no_token_is_never_quoted(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"token|JSON") as refused:
        read_token_file(content)
    assert "canar" not in str(refused.value)


@pytest.mark.parametrize(
    ("token", "ends_at"),
    [
        (jwt(1_800_000_900), 1_800_000_900.0),
        (jwt("soon"), None),
        (jwt(True), None),
        (jwt(-1), None),
        ("a.b", None),
        ("a.!!.c", None),
        ("a.W10.c", None),
    ],
)
def test_the_end_of_a_token_is_read_where_it_can_be(token: str, ends_at: float | None) -> None:
    assert from_strings(token, "").expires_at == ends_at


def test_a_file_that_is_nested_without_end_holds_no_token() -> None:
    with pytest.raises(ValueError, match="begins like JSON and is none"):
        read_token_file(b'{"token":' + b"[" * 60_000)


@given(st.binary(max_size=100))
def test_no_file_raises_anything_else(content: bytes) -> None:
    try:
        read_token_file(content)
    except ValueError:
        pass


# ---- which to show


def test_the_tunnel_token_then_the_renewal_token_then_none() -> None:
    renewal = held()
    assert renewal.bearer(NOW) == Bearer(kind=Kind.TUNNEL, token="tunnel")
    assert renewal.bearer(NOW + 899) == Bearer(kind=Kind.RENEWAL, token="renewal")
    assert renewal.bearer(NOW + 86399) is None
    renewal.refuse("tunnel")
    assert renewal.bearer(NOW) == Bearer(kind=Kind.RENEWAL, token="renewal")
    renewal.refuse("renewal")
    assert renewal.bearer(NOW) is None
    renewal.forgive()
    assert renewal.bearer(NOW) == Bearer(kind=Kind.TUNNEL, token="tunnel")
    assert "tunnel" not in repr(Bearer(kind=Kind.RENEWAL, token="tunnel"))


def test_what_is_brought_is_not_refused_for_what_was_before() -> None:
    renewal = held()
    renewal.refuse("tunnel")
    renewal.bring(from_strings("tunnel", ""), NOW)
    assert renewal.bearer(NOW) == Bearer(kind=Kind.TUNNEL, token="tunnel")


# ---- when to ask


def test_at_half_life_and_again_by_the_same_id_until_there_is_an_answer() -> None:
    renewal = held()
    assert renewal.due(NOW + 449, "r1") is None
    assert renewal.due(NOW + 450, "r1") == "r1"
    assert renewal.due(NOW + 451, "r2") is None
    assert renewal.due(NOW + 450 + ANSWER_SECONDS, "r2") == "r1"
    renewal.tunnel_opened(Kind.TUNNEL, NOW + 461)
    assert renewal.due(NOW + 461, "r3") == "r1"
    assert renewal.answered(answer("next", 1360), NOW + 462)
    assert renewal.tokens.renewal == "next-renewal"
    assert renewal.due(NOW + 462, "r4") is None
    assert renewal.due(NOW + 462 + 450, "r4") == "r4"


def test_a_tunnel_opened_by_the_renewal_token_brings_its_answer_itself() -> None:
    renewal = held(token_seconds=-10)
    assert renewal.due(NOW, "r1") == "r1"
    renewal.tunnel_opened(Kind.RENEWAL, NOW)
    assert renewal.due(NOW, "r2") is None
    assert renewal.answered(answer("next"), NOW)
    assert renewal.due(NOW + 1, "r2") is None


def test_a_token_whose_end_is_not_known_is_renewed_at_once() -> None:
    renewal = Renewal()
    renewal.bring(from_strings("opaque", ""), NOW)
    assert renewal.due(NOW, "r1") == "r1"
    assert renewal.bearer(NOW + 10**6) == Bearer(kind=Kind.TUNNEL, token="opaque")


@pytest.mark.parametrize(("retryable", "seconds"), [(True, RETRY_SECONDS), (False, LONG_RETRY_SECONDS)])
def test_a_refusal_is_answered_by_patience_and_another_id(retryable: bool, seconds: float) -> None:
    renewal = held()
    assert renewal.due(NOW + 450, "r1") == "r1"
    renewal.failed({"requestId": "of somebody else", "retryable": retryable}, NOW + 451)
    assert renewal.due(NOW + 450 + ANSWER_SECONDS, "r2") == "r1"
    renewal.failed({"requestId": "r1", "retryable": retryable}, NOW + 461)
    assert renewal.due(NOW + 461 + seconds - 1, "r2") is None
    assert renewal.due(NOW + 461 + seconds, "r2") == "r2"


# ---- answers


def test_an_answer_that_comes_twice_does_not_bring_back_a_used_token() -> None:
    renewal = held()
    assert renewal.answered(answer("one"), NOW)
    assert not renewal.answered(answer("one"), NOW)
    assert renewal.answered(answer("two", request_id="r2"), NOW)
    assert renewal.tokens.token == "two"


def test_a_token_may_live_shorter_than_the_one_before() -> None:
    renewal = held(token_seconds=86400)
    assert renewal.answered(answer("one", 60), NOW)
    assert (renewal.tokens.token, renewal.tokens.renewal) == ("one", "one-renewal")


def test_an_answer_without_a_renewal_token_leaves_the_one_there_is() -> None:
    renewal = held()
    document = {name: value for name, value in answer("next").items() if not name.startswith("renewal")}
    assert renewal.answered(document, NOW)
    assert (renewal.tokens.token, renewal.tokens.renewal) == ("next", "renewal")


@pytest.mark.parametrize(
    "change",
    [
        {"requestId": None},
        {"token": None},
        {"token": ""},
        {"token": "a b"},
        {"token": "x" * 9000},
        {"expiresAt": "1"},
        {"expiresAt": True},
        {"expiresAt": -1},
        {"expiresAt": 2**53},
        {"expiresAt": 10**400},
        {"renewalExpiresAt": 10**400},
        {"renewalToken": 5},
        {"renewalToken": ""},
        {"renewalExpiresAt": None},
    ],
)
def test_an_answer_that_is_none(change: dict[str, object]) -> None:
    renewal = held()
    with pytest.raises(RemoteProtocolError, match=r"token\.response"):
        renewal.answered(answer("next") | change, NOW)
    assert renewal.tokens.token == "tunnel"


STEPS = st.lists(
    st.tuples(st.sampled_from(["wait", "due", "answer", "fail", "open", "reopen", "refuse"]), st.integers(1, 1200)),
    max_size=60,
)


@given(STEPS)
def test_whatever_happens_no_token_is_asked_for_twice_at_once(steps: list[tuple[str, int]]) -> None:
    renewal, now, asked, number = held(), NOW, None, 0
    for step, seconds in steps:
        match step:
            case "wait":
                now += seconds
            case "due":
                number += 1
                request_id = renewal.due(now, f"r{number}")
                # The id stays the same until it is answered.
                assert asked is None or request_id in (None, asked)
                asked = request_id or asked
            case "answer":
                response = answer(f"t{number}", int(now - NOW) + seconds, asked or f"unasked{number}")
                asked = None if renewal.answered(response, now) else asked
            case "fail":
                renewal.failed({"requestId": asked}, now)
                asked = None
            case "open":
                renewal.tunnel_opened(Kind.TUNNEL, now)
            case "reopen":
                renewal.tunnel_opened(Kind.RENEWAL, now)
                asked = None
            case "refuse":
                renewal.refuse(renewal.tokens.token)
        bearer = renewal.bearer(now)
        if bearer is not None and bearer.kind is Kind.TUNNEL:
            assert (renewal.tokens.expires_at or 0) > now
