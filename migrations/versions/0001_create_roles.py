"""Create the application's role: it reads and appends, and owns nothing (ARCHITECTURE 3.7)."""

from app.migrate import execute

revision, down_revision = "0001", None


def upgrade() -> None:
    # A role outlives its database: another database of the same server may have made it already.
    execute("""
        DO $$ BEGIN
            CREATE ROLE candour_app NOINHERIT LOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END $$
    """)
    execute("GRANT candour_app TO CURRENT_USER")
    execute("GRANT USAGE ON SCHEMA public TO candour_app")
    execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
