"""Documents that outlive the process."""

from pathlib import Path

import pytest

from sallyport.setup import setup_digest
from sandboxd.setup.kept import KeptDocuments
from tests.support.setup_documents import setup_body, setup_of


def test_pending_becomes_applied(tmp_path: Path) -> None:
    kept = KeptDocuments(tmp_path)
    assert (kept.applied(), kept.pending()) == (None, None)
    kept.keep_pending(setup_body(1))
    kept.settle()
    kept.keep_pending(setup_body(2))
    again = KeptDocuments(tmp_path)
    applied, pending = again.applied(), again.pending()
    assert applied is not None
    assert pending is not None
    assert (applied.document, applied.digest) == (setup_of(revision=1), setup_digest(setup_body(1)))
    assert pending.document.revision == 2


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff"])
def test_what_cannot_be_read_is_not_there(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "applied.json").write_bytes(content)
    (tmp_path / "pending.json").mkdir()
    assert (KeptDocuments(tmp_path).applied(), KeptDocuments(tmp_path).pending()) == (None, None)
