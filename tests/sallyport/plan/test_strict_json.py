import pytest

from sallyport.plan.issue_codes import IssueCode
from sallyport.plan.strict_json import MAX_DEPTH, Fault, StrictJsonError, faults_of, read_strictly


def faults(text: str) -> list[tuple[str, tuple[str | int, ...]]]:
    return [(fault.code.value, fault.path) for fault in read_strictly(text.encode(), most_faults=100)[1]]


def test_a_good_document_is_read_as_it_is() -> None:
    data = '{"a": [1, -2, true, "é", {}], "b": {"c": 9007199254740991}}'.encode()
    assert read_strictly(data, most_faults=1) == ({"a": [1, -2, True, "é", {}], "b": {"c": 2**53 - 1}}, [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": 1, "b": {"a": 1, "a": 1, "a": 2}}', [("duplicate_key", ("b", "a"))]),
        ("[1.0, 1e3, -0.0, NaN, Infinity, -Infinity]", [("float_refused", (n,)) for n in range(6)]),
        ("[9007199254740992, -9007199254740992]", [("integer_out_of_range", (0,)), ("integer_out_of_range", (1,))]),
        (f"[{'9' * 5000}]", [("integer_out_of_range", (0,))]),
        ('{"a": null, "b": [null]}', [("null_refused", ("a",)), ("null_refused", ("b", 0))]),
        ('["\\ud800", "\\ud83d\\ude00", "é"]', [("invalid_text", (0,))]),
        ('{"\\udc00": 1}', [("invalid_text", ())]),
        ('{"é": 1}', []),
    ],
)
def test_every_fault_has_its_path(text: str, expected: list[tuple[str, tuple[str | int, ...]]]) -> None:
    assert faults(text) == expected


def test_nesting_is_bounded() -> None:
    deepest = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert faults(deepest) == []
    with pytest.raises(StrictJsonError) as refused:
        read_strictly(f"[{deepest}]".encode(), most_faults=100)
    assert refused.value.fault.code is IssueCode.TOO_DEEP
    assert refused.value.fault.path == (0,) * MAX_DEPTH
    assert str(refused.value) == refused.value.fault.message
    deeper: list[object] = []
    for _ in range(2 * MAX_DEPTH):
        deeper = [deeper]
    assert [fault.path for fault in faults_of([deeper, deeper])] == [(0,) * MAX_DEPTH, (1,) + (0,) * (MAX_DEPTH - 1)]


def test_faults_are_bounded() -> None:
    assert len(read_strictly(b"[1.5, 1.5, 1.5]", most_faults=2)[1]) == 2


def test_a_syntax_error_has_its_place() -> None:
    with pytest.raises(StrictJsonError, match="line 2, column 3"):
        read_strictly(b'{"a":\n  x}', most_faults=1)


def test_values_that_are_no_json_are_faults() -> None:
    assert [fault.code for fault in faults_of({"a": b"", "b": 1.5, "c": None, 3: 1})] == [
        IssueCode.INVALID_TEXT,
        IssueCode.WRONG_TYPE,
        IssueCode.FLOAT_REFUSED,
        IssueCode.NULL_REFUSED,
    ]
    assert list(faults_of((1, None), null_allowed=True)) == []
    assert list(faults_of(2**60)) == [
        Fault(IssueCode.INTEGER_OUT_OF_RANGE, (), "integers lie between -(2^53 - 1) and 2^53 - 1")
    ]
