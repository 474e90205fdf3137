"""JSON as a plan is written: UTF-8, no duplicate keys, no floats, no null, integers within 2^53 (contracts, preamble).

Reading reports every fault with its path instead of stopping at the first.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from sallyport.plan.issue_codes import IssueCode

MAX_DEPTH: Final = 32  # a plan needs 9
MAX_INTEGER: Final = 2**53 - 1  # RFC 8259 section 6: what every reader agrees on exactly

type Path = tuple[str | int, ...]


class Fault(NamedTuple):
    """Something wrong at a path of member names and array indexes; `()` is the whole document."""

    code: IssueCode
    path: Path
    message: str


class StrictJsonError(ValueError):
    """The bytes are no JSON document at all; `fault` says why."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class _Unreadable:
    """Stands in a document for a number that may not be there."""

    __slots__ = ("code", "message")

    def __init__(self, code: IssueCode, message: str) -> None:
        self.code = code
        self.message = message


class _Repeated(dict[str, object]):
    """An object that names some of its members more than once."""

    __slots__ = ("names",)

    names: tuple[str, ...]


_FLOAT = _Unreadable(IssueCode.FLOAT_REFUSED, "numbers are integers, written without fraction and exponent")
_HUGE = _Unreadable(IssueCode.INTEGER_OUT_OF_RANGE, "integers lie between -(2^53 - 1) and 2^53 - 1")


def read_strictly(data: bytes, *, most_faults: int) -> tuple[object, list[Fault]]:
    """Read a document and what is wrong with its JSON; raise StrictJsonError when there is no document to speak of."""
    try:
        document = _decoder.decode(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise StrictJsonError(Fault(IssueCode.NOT_UTF8, (), "the document is not UTF-8")) from None
    except json.JSONDecodeError as error:
        message = f"not JSON: line {error.lineno}, column {error.colno}"
        raise StrictJsonError(Fault(IssueCode.INVALID_JSON, (), message)) from None
    except RecursionError:
        raise StrictJsonError(_too_deep(())) from None
    faults: list[Fault] = []
    for fault in faults_of(document):
        if fault.code is IssueCode.TOO_DEEP:
            raise StrictJsonError(fault)
        if len(faults) < most_faults:
            faults.append(fault)
    return document, faults


def _read_object(members: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(members)
    if len(result) == len(members):
        return result
    repeated = _Repeated(result)
    names = [name for name, _ in members]
    repeated.names = tuple(name for name, count in Counter(names).items() if count > 1)
    return repeated


def _read_integer(digits: str) -> object:
    # Bounded before int(), which is quadratic and has a limit of its own.
    if len(digits) > 17:
        return _HUGE
    number = int(digits)
    return number if -MAX_INTEGER <= number <= MAX_INTEGER else _HUGE


def _read_float(_: str) -> object:
    return _FLOAT


_decoder = json.JSONDecoder(
    object_pairs_hook=_read_object,
    parse_int=_read_integer,
    parse_float=_read_float,
    parse_constant=_read_float,  # NaN and Infinity, which are not JSON but which the decoder knows
)


def faults_of(document: object, *, null_allowed: bool = False) -> Iterator[Fault]:
    """Walk a document, without recursion and in an order that depends on the document alone."""
    pending: list[tuple[Path, object]] = [((), document)]
    while pending:
        path, value = pending.pop()
        members: Iterable[tuple[str | int, object]]
        if isinstance(value, dict):
            yield from _name_faults(path, value)
            members = value.items()
        elif isinstance(value, list | tuple):
            members = enumerate(value)
        else:
            yield from _leaf_faults(path, value, null_allowed)
            continue
        if len(path) >= MAX_DEPTH:
            yield _too_deep(path)
            continue
        nested: list[tuple[Path, object]] = []
        for step, member in members:
            # Most of a document is plain text; only what may be at fault costs a path.
            if type(member) is str and member.isascii():
                continue
            nested.append(((*path, step), member))
        pending.extend(reversed(nested))


def _leaf_faults(path: Path, value: object, null_allowed: bool) -> Iterator[Fault]:
    match value:
        case str():
            if not _is_text(value):
                yield Fault(IssueCode.INVALID_TEXT, path, "text holds half of a surrogate pair")
        case bool():
            pass
        case int():
            if not -MAX_INTEGER <= value <= MAX_INTEGER:
                yield Fault(_HUGE.code, path, _HUGE.message)
        case float():
            yield Fault(_FLOAT.code, path, _FLOAT.message)
        case None:
            if not null_allowed:
                yield Fault(IssueCode.NULL_REFUSED, path, "an optional field is absent, never null")
        case _Unreadable():
            yield Fault(value.code, path, value.message)
        case _:
            yield Fault(IssueCode.WRONG_TYPE, path, "not a JSON value")


def _name_faults(path: Path, value: dict[str, object]) -> Iterator[Fault]:
    if isinstance(value, _Repeated):
        for name in value.names:
            yield Fault(IssueCode.DUPLICATE_KEY, (*path, name), "this member is named more than once")
    for name in value:
        if not isinstance(name, str) or not _is_text(name):
            yield Fault(IssueCode.INVALID_TEXT, path, "a member name is no text, or holds half of a surrogate pair")


def _is_text(value: str) -> bool:
    if value.isascii():
        return True
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _too_deep(path: Path) -> Fault:
    return Fault(IssueCode.TOO_DEEP, path, f"nested deeper than {MAX_DEPTH} levels")
