"""What a refusal is answered with."""

import pytest

from worker.integrations.errors import Category, IntegrationError, invalid, provider_error


@pytest.mark.parametrize(
    ("category", "name", "status"),
    [
        (Category.VALIDATION_ERROR, "ValidationError", 400),
        (Category.NOT_FOUND, "NotFound", 404),
        (Category.INVALID_STATE, "InvalidState", 409),
        (Category.DUPLICATE, "Duplicate", 409),
        (Category.PROVIDER_ERROR, "ProviderError", 502),
    ],
)
def test_each_category_has_its_name_and_status(category: Category, name: str, status: int) -> None:
    error = IntegrationError(category, "no", {"a": 1})
    assert error.to_document() == {"error": {"category": name, "message": "no", "details": {"a": 1}}}
    assert error.category.status == status


def test_issues_are_details() -> None:
    issue = {"pointer": "/id", "message": "no"}
    assert invalid("no", [issue]).to_document()["error"] == {
        "category": "ValidationError",
        "message": "no",
        "details": {"issues": [issue]},
    }
    assert provider_error("no").details is None
