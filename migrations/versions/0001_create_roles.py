"""Create the application's role: it reads and appends, and owns nothing (ARCHITECTURE 3.7)."""

from alembic import op

revision, down_revision = "0001", None


def upgrade() -> None:
    # A role outlives its database: another database of the same server may have made it already.
    op.execute("""
        DO $$ BEGIN
            CREATE ROLE candour_app NOINHERIT LOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END $$
    """)
    op.execute("GRANT candour_app TO CURRENT_USER")
    op.execute("GRANT USAGE ON SCHEMA public TO candour_app")
    op.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
