"""Run migrations on the connection that control_plane/store/migrate.py gives. Alembic loads this by its path."""

from alembic import context

from control_plane.store.models import Model

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Model.metadata,
    render_as_batch=True,  # SQLite alters a table by making it anew
    compare_type=True,
)
context.run_migrations()
