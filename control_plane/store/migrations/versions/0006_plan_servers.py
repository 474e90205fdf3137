"""The MCP servers inside sandboxes, of plans that were put in force before they, or those by stdio, were noted."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa
from alembic import op

from sallyport.host import is_loopback

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_sandboxes = sa.table(
    "sandboxes",
    sa.column("id", sa.Text()),
    sa.column("revision", sa.BigInteger()),
    sa.column("deleted_at", sa.BigInteger()),
)
_plans = sa.table(
    "plans",
    sa.column("sandbox_id", sa.Text()),
    sa.column("revision", sa.BigInteger()),
    sa.column("document", sa.LargeBinary()),
)
_servers = sa.table("plan_servers", sa.column("sandbox_id", sa.Text()), sa.column("server_id", sa.Text()))


def upgrade() -> None:
    """Note those that are missing. One plan at a time: each may be 2 MiB."""
    connection = op.get_bind()
    in_force = sa.select(_sandboxes.c.id, _sandboxes.c.revision)
    in_force = in_force.where(_sandboxes.c.deleted_at.is_(None), _sandboxes.c.revision.is_not(None))
    for sandbox_id, number in connection.execute(in_force).all():
        plan = sa.select(_plans.c.document).where(_plans.c.sandbox_id == sandbox_id, _plans.c.revision == number)
        document = connection.execute(plan).scalar()
        noted = sa.select(_servers.c.server_id).where(_servers.c.sandbox_id == sandbox_id)
        missing = set(_inside(document)) - set(connection.execute(noted).scalars())
        if missing:
            rows = [{"sandbox_id": sandbox_id, "server_id": server_id} for server_id in sorted(missing)]
            connection.execute(sa.insert(_servers), rows)


def downgrade() -> None:
    """Leave them: they are as true before."""


def _inside(document: bytes | None) -> Iterator[str]:
    plan: dict[str, Any] = json.loads(document) if document is not None else {}
    servers = plan.get("mcpServers", ())
    count = Counter(server["serverId"] for server in servers)
    for server in servers:
        transport = server["transport"]
        if count[server["serverId"]] > 1:
            continue
        if transport["type"] == "stdio" or is_loopback(urlsplit(transport["url"]).hostname or ""):
            yield server["serverId"]
