"""What a request about sandboxes is answered with."""

from worker.integrations.errors import Category
from worker.sandboxes.errors import SandboxError, failed


def test_the_answer_says_whose_fault_it_is() -> None:
    error = SandboxError(Category.NOT_FOUND, "there is no sandbox sbx_one")
    assert error.to_document() == {
        "error": {"category": "NotFound", "message": "there is no sandbox sbx_one", "details": None}
    }
    assert failed("no").category.status == 502
