"""What schemathesis does otherwise when it asks in sequences: it loads this file by SCHEMATHESIS_HOOKS."""

from collections.abc import Mapping

import schemathesis  # type: ignore[import-not-found]  # it has an environment of its own


@schemathesis.hook  # type: ignore[untyped-decorator]
def map_headers(_: object, headers: Mapping[str, str] | None) -> dict[str, str] | None:
    """Take no key along: the second request of a key gets the answer of the first, whose resource may be deleted."""
    if headers is None:
        return None
    return {name: value for name, value in headers.items() if name.lower() != "idempotency-key"}
