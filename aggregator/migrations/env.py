"""What alembic runs to migrate: always on a connection that `aggregator.migrate` hands over, in its transaction."""

from alembic import context

from aggregator.migrate import Schema

_schema: Schema = context.config.attributes["schema"]

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=_schema.metadata,
    version_table=_schema.version_table,
    render_as_batch=True,  # SQLite cannot alter most things in place
)
context.run_migrations()
