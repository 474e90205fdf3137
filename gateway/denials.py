"""The last denials of each sandbox, kept in memory for whoever asks why (docs/operations/denials.md).

A denial is an answer that the gateway made instead of the destination, or what it cut. It says what the audit record of
the exchange says, and why: never a query, a header, a body or a secret. Nothing here is met by an exchange that is
admitted.
"""

import secrets
from collections import OrderedDict, deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

import orjson

from gateway.audit_line import FIELDS, Record, printable
from gateway.core.decision import Deny
from sallyport.denial_cursor import number_of
from sallyport.problem import Code

# Those of one sandbox, and of all, where nobody says otherwise.
MOST_EACH: Final = 100
MOST: Final = 10_000
# A path is what a sandbox makes as long as it likes, up to its head's limit.
MAX_PATH: Final = 1024
MAX_TEXT: Final = 512
# Where it is longer, what the nearest route expects is left out: it is the plan's, and as long as the plan makes it.
MAX_BYTES: Final = 6 * 1024

_TIME: Final = FIELDS.index("time")
_SANDBOX: Final = FIELDS.index("sandboxId")
_CODE: Final = FIELDS.index("code")
_METHOD, _PATH = FIELDS.index("method"), FIELDS.index("path")
# Of the audit record, in its order.
_SHOWN: Final = tuple(
    (name, FIELDS.index(name))
    for name in (
        *("requestId", "organizationId", "sandboxId", "source", "mode", "method", "scheme", "host", "port", "path"),
        *("egressRuleId", "planRevision", "outcome", "status", "code"),
    )
)
_RETRYABLE: Final = {code.wire: code.retryable for code in Code}


class Denial(NamedTuple):
    """One denial. Numbers rise.

    It is written down when somebody reads it: of those that are made most are never read. What is kept until then has
    the same limits.
    """

    number: int
    sandbox_id: str
    told: bytes | tuple[Record, Deny | None]

    @property
    def document(self) -> bytes:
        """The denial as JSON."""
        return self.told if isinstance(self.told, bytes) else _document(*self.told)


class Denials:
    """Those of one process, the oldest going first. Used from the event loop only.

    Always: there are at most `most`, at most `most_each` of a sandbox, and none of nobody.
    """

    def __init__(self, *, most_each: int = MOST_EACH, most: int = MOST) -> None:
        self._most_each = most_each
        self._most = most
        # Tells this process from the one before it, whose cursors a reader may still have.
        self._name = secrets.token_hex(4)
        self._number = 0
        self._all: OrderedDict[int, Denial] = OrderedDict()
        self._of: dict[str, deque[int]] = {}
        self.is_closed = False

    def note(self, record: Record, deny: Deny | None) -> None:
        """Keep a denial, given its audit record, and why where more is known. One without a good token is nobody's."""
        sandbox_id = record[_SANDBOX]
        if isinstance(sandbox_id, str) and self._most_each:
            self.keep(sandbox_id, _document(record, deny) if _is_long(record) else (record, deny))

    def keep(self, sandbox_id: str, told: bytes | tuple[Record, Deny | None]) -> None:
        """Keep a denial, as it was noted or as another process has written it down."""
        numbers = self._of.setdefault(sandbox_id, deque())
        if len(numbers) >= self._most_each:
            del self._all[numbers.popleft()]
        elif len(self._all) >= self._most:
            self._drop_oldest()
            numbers = self._of.setdefault(sandbox_id, numbers)
        self._number += 1
        numbers.append(self._number)
        self._all[self._number] = Denial(self._number, sandbox_id, told)

    def after(self, cursor: str, sandbox_id: str | None = None, *, most: int = MOST) -> Sequence[Denial]:
        """Return the newest that came after a cursor, of one sandbox or of all, in their order.

        A cursor of no process, or of another one, is the beginning.
        """
        known = number_of(cursor, self._name)
        found: list[Denial] = []
        numbers = reversed(self._all) if sandbox_id is None else reversed(self._of.get(sandbox_id, ()))
        for number in numbers:
            if number <= known or len(found) >= most:
                break
            found.append(self._all[number])
        return found[::-1]

    def cursor(self, number: int | None = None) -> str:
        """Return the cursor behind a denial, or behind the newest there has been."""
        return f"{self._name}-{self._number if number is None else number}"

    def close(self) -> None:
        """End what follows; for the end of the gateway."""
        self.is_closed = True

    def _drop_oldest(self) -> None:
        _, oldest = self._all.popitem(last=False)
        numbers = self._of[oldest.sandbox_id]
        numbers.popleft()
        if not numbers:
            del self._of[oldest.sandbox_id]

    def __len__(self) -> int:
        return len(self._all)

    def __repr__(self) -> str:
        return f"<Denials {self._name}: {len(self._all)} of {len(self._of)} sandboxes>"


def _is_long(record: Record) -> bool:
    """Whether the sandbox has made something so long that it is not kept as it is."""
    return len(str(record[_METHOD])) + len(str(record[_PATH])) > MAX_PATH


def _document(record: Record, deny: Deny | None) -> bytes:
    when = record[_TIME]
    assert isinstance(when, float), "a record begins with its instant"
    shown: dict[str, object] = {
        "time": datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    }
    shown |= {name: _cut(name, record[index]) for name, index in _SHOWN if record[index] is not None}
    shown["retryable"] = _RETRYABLE.get(str(record[_CODE]), False)
    if deny is None:
        return orjson.dumps(shown)
    shown["detail"] = _cut("detail", deny.detail)
    if deny.hint is not None:
        shown["hint"] = _cut("hint", deny.hint)
    if deny.nearest is None:
        return orjson.dumps(shown)
    document = orjson.dumps(shown | {"nearest": deny.nearest})
    if len(document) > MAX_BYTES:
        nearest = {name: value for name, value in deny.nearest.items() if name != "expected"}
        document = orjson.dumps(shown | {"nearest": nearest})
    return document


def _cut(name: str, value: object) -> object:
    """Return a value of a length that can be kept; what is cut ends with an ellipsis, which is in no path."""
    if not isinstance(value, str):
        return value
    if name == "path":
        value = value.partition("?")[0]  # as in the audit log: a key in a query must not get here by anybody's mistake
    most = MAX_PATH if name == "path" else MAX_TEXT
    return printable(value if len(value) <= most else f"{value[:most]}…")
