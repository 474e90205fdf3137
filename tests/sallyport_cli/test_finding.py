import pytest

from sallyport_cli.finding import Finding, State, failed, ok, skipped, warning


@pytest.mark.parametrize(
    ("finding", "state"),
    [
        (ok("a", "b"), State.OK),
        (failed("a", "b", "c"), State.FAILED),
        (warning("a", "b", "c"), State.WARNING),
        (skipped("a", "b"), State.SKIPPED),
    ],
)
def test_each_kind(finding: Finding, state: State) -> None:
    assert (finding.check, finding.seen, finding.state) == ("a", "b", state)


def test_a_document_leaves_out_what_is_empty() -> None:
    assert ok("a", "b").to_document() == {"check": "a", "state": "ok", "seen": "b"}
    assert failed("a", "b", "c").to_document()["remedy"] == "c"
