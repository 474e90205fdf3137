"""What a request about integration servers is answered with when it is not done (contracts section 8)."""

from collections.abc import Mapping
from enum import Enum


class Category(Enum):
    """Whose fault it is, each with its status."""

    VALIDATION_ERROR = ("ValidationError", 400)
    NOT_FOUND = ("NotFound", 404)
    INVALID_STATE = ("InvalidState", 409)
    DUPLICATE = ("Duplicate", 409)
    PROVIDER_ERROR = ("ProviderError", 502)

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.value[1]


class IntegrationError(Exception):
    """A request that is refused or failed; neither message nor details hold a secret."""

    def __init__(self, category: Category, message: str, details: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.category = category
        self.details = details

    def to_document(self) -> dict[str, object]:
        """Return the answer's body."""
        return {"error": {"category": self.category.value[0], "message": str(self), "details": self.details}}


def invalid(message: str, issues: list[dict[str, str]] | None = None) -> IntegrationError:
    """Return the error of a request that cannot be meant; each issue has a pointer and a message."""
    return IntegrationError(Category.VALIDATION_ERROR, message, None if issues is None else {"issues": issues})


def provider_error(message: str, details: Mapping[str, object] | None = None) -> IntegrationError:
    """Return the error of a server, a registry or an installer that failed."""
    return IntegrationError(Category.PROVIDER_ERROR, message, details)
