"""What a request about sandboxes is answered with when it is not done."""

from worker.integrations.errors import Category


class SandboxError(Exception):
    """A request that is refused or failed; the message holds no token."""

    def __init__(self, category: Category, message: str) -> None:
        super().__init__(message)
        self.category = category

    def to_document(self) -> dict[str, object]:
        """Return the answer's body."""
        return {"error": {"category": self.category.value[0], "message": str(self), "details": None}}


def failed(message: str) -> SandboxError:
    """Return the error of a provider, a kernel or a control plane that did not do it."""
    return SandboxError(Category.PROVIDER_ERROR, message)
