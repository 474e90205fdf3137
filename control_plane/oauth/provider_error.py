"""Why a provider did not give what it was asked for."""

from enum import Enum


class Fault(Enum):
    """TEMPORARY may pass; PERMANENT needs the member or the operator; REQUEST is about this question alone."""

    TEMPORARY = "temporary"
    PERMANENT = "permanent"
    REQUEST = "request"


class ProviderError(Exception):
    """A provider was not asked, did not answer, or refused. `reason` is in our words: safe to show and to keep."""

    def __init__(self, fault: Fault, reason: str, *, retry_after: int = 0) -> None:
        super().__init__(reason)
        self.fault = fault
        self.reason = reason
        self.retry_after = retry_after


def temporary(reason: str, *, retry_after: int = 0) -> ProviderError:
    """Return an error that may pass."""
    return ProviderError(Fault.TEMPORARY, reason, retry_after=retry_after)


def permanent(reason: str) -> ProviderError:
    """Return an error that stays until somebody changes something."""
    return ProviderError(Fault.PERMANENT, reason)
