"""Ids that sort by the time they were made."""

import secrets
from typing import Final

# Milliseconds fit in 12 hex digits until the year 10889; 80 random bits keep ids of one millisecond apart (as ULID).
_TIME_DIGITS: Final = 12
_RANDOM_BYTES: Final = 10


def new_id(prefix: str, now: float) -> str:
    """Return a new id such as `sbx_0190f0...`; `now` is unix time in seconds."""
    return f"{prefix}_{int(now * 1000):0{_TIME_DIGITS}x}{secrets.token_hex(_RANDOM_BYTES)}"
