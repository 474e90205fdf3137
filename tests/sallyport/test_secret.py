"""A secret leaves by reveal() alone (egress case C14)."""

import copy
import dataclasses
import json
import logging
import pickle
import traceback
from collections.abc import Callable

import pytest

from sallyport.secret import Secret, why_unusable

CANARY = "canary-5d41402abc4b"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    name: str
    value: Secret


def test_reveal_returns_the_bytes() -> None:
    assert Secret(b"value").reveal() == b"value"


@pytest.mark.parametrize(
    "show",
    [repr, str, format, lambda s: f"{s!r:>40}", lambda s: f"{s:>40}", lambda s: "%s %r" % (s, s), lambda s: repr([s])],  # noqa: UP031 - the old form is what is tested
)
def test_c14_no_formatting_shows_the_value(show: Callable[[Secret], str]) -> None:
    text = show(Secret(CANARY.encode()))
    assert "<Secret>" in text
    assert CANARY not in text


def test_c14_no_log_record_or_traceback_shows_the_value(caplog: pytest.LogCaptureFixture) -> None:
    holder = Holder(name="openai", value=Secret(CANARY.encode()))
    try:
        raise ValueError(holder)
    except ValueError as error:
        logging.getLogger("test").exception("failed with %s", holder.value)
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "<Secret>" in shown
    assert CANARY not in shown.replace(f'CANARY = "{CANARY}"', "")
    assert "<Secret>" in caplog.text
    assert CANARY not in caplog.text


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_c14_pickling_is_refused(protocol: int) -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(Secret(CANARY.encode()), protocol)


@pytest.mark.parametrize(
    "take",
    [
        copy.copy,
        copy.deepcopy,
        json.dumps,
        hash,
        len,
        bytes,
        vars,
        iter,
        memoryview,
        lambda s: s.__getstate__(),
        lambda s: dataclasses.asdict(Holder(name="openai", value=s)),
    ],
)
def test_c14_no_other_way_out(take: Callable[[Secret], object]) -> None:
    with pytest.raises(TypeError) as caught:
        take(Secret(CANARY.encode()))
    assert CANARY not in str(caught.value)


def test_equality_is_by_value_and_only_with_secrets() -> None:
    assert Secret(b"value") == Secret(b"value")
    assert Secret(b"value") != Secret(b"value2")
    assert Secret(b"value") != b"value"
    assert Holder(name="a", value=Secret(b"v")) == Holder(name="a", value=Secret(b"v"))


def test_a_secret_cannot_be_changed() -> None:
    secret = Secret(b"value")
    with pytest.raises(AttributeError):
        secret._Secret__value = b"other"  # the name the compiler gives it
    with pytest.raises(AttributeError):
        del secret._Secret__value  # type: ignore[attr-defined]  # mypy does not mangle; the compiler does
    with pytest.raises(AttributeError):
        secret.note = "x"
    assert secret.reveal() == b"value"


@pytest.mark.parametrize("value", [CANARY, bytearray(CANARY.encode()), None])
def test_only_bytes_make_a_secret_and_the_refusal_does_not_show_the_value(value: object) -> None:
    with pytest.raises(TypeError, match="a secret is bytes, not") as caught:
        Secret(value)  # type: ignore[arg-type]  # the wrong type is the test
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is empty"),
        ("a\r\nX-Evil: 1", "it contains a carriage return"),
        ("a\nb", "it contains a line feed"),
        ("a\0b", "it contains a NUL"),
        ("a\x1bb", "it contains a control character"),
        ("a\tb", "it contains a control character"),
        ("a\x7f", "it contains a control character"),
        ("a€", "it contains a character beyond latin-1"),
        ("a\udc80", "it contains a character beyond latin-1"),
        (" a", "it begins or ends with a space"),
        ("a ", "it begins or ends with a space"),
    ],
)
def test_c4_what_cannot_be_a_secret(text: str, reason: str) -> None:
    assert why_unusable(text) == reason


@pytest.mark.parametrize("text", ["x", "sk-0123456789", "a b", "é\xff", "=;,\"'"])
def test_what_can_be_a_secret(text: str) -> None:
    assert why_unusable(text) is None
