"""What a server of our own is told: the one place of these programs that reads the environment."""

import os
from typing import Final

POSTGRESQL_URL: Final = "POSTGRESQL_URL"


def postgresql_url() -> str | None:
    """Return the database's URL, as libpq reads it."""
    return os.environ.get(POSTGRESQL_URL) or None
