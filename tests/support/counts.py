"""What the tests of a run tried and found, added up from their reports.

A test is one that is tried, and one that is found where it fails, by `@pytest.mark.counted(tried, found)`. One that
tries many in a loop says how many in place of that one: `record_property("tried", ["vectors", 179])`. Of
`record_property("longest", ["plain request", seconds])` the most is kept.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest


@dataclass(slots=True, kw_only=True)
class _Of:
    """One test, of all its reports: it may pass and fail afterwards, when what it used is taken down."""

    properties: list[tuple[str, object]] = field(default_factory=list)
    has_failed: bool = False


def counts_of(reports: Iterable[pytest.TestReport]) -> str:
    """Return the counts in one line; empty where nothing was counted.

    The reports are those that passed, failed or are errors. A gateway that dies in a fixture makes an error of each
    test that needs it, which could say nothing else: it is found like one that failed.
    """
    tests: dict[str, _Of] = {}
    for report in reports:
        test = tests.setdefault(report.nodeid, _Of())
        test.has_failed |= report.failed
        # The later report of a test repeats what the earlier one has.
        test.properties = max(test.properties, report.user_properties, key=len)
    tried, found, longest = Counter[str](), Counter[str](), dict[str, float]()
    for test in tests.values():
        _count(test, tried, found, longest)
    return "; ".join(
        [
            *(f"{what} tried: {count}" for what, count in sorted(tried.items())),
            *(f"{what}: {count}" for what, count in sorted(found.items())),
            *(f"longest {what}: {seconds:.3f} s" for what, seconds in sorted(longest.items())),
        ]
    )


def _count(test: _Of, tried: Counter[str], found: Counter[str], longest: dict[str, float]) -> None:
    ones, many = Counter[str](), Counter[str]()
    for name, value in test.properties:
        match name, value:
            case "counted", [str(what), str(what_is_found)]:
                ones[what] = 1
                found[what_is_found] += test.has_failed
            case "tried", [str(what), int(number)]:
                many[what] += number
            case "longest", [str(what), float(seconds)]:
                longest[what] = max(seconds, longest.get(what, 0.0))
    tried.update(ones | many)
