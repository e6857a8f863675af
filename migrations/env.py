"""Alembic's entry: migrations run as the owner over asyncpg, inside one transaction."""

from alembic import context

from app.db import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=False)
with context.begin_transaction():
    context.run_migrations()
