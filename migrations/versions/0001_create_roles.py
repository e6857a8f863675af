"""Create the application's role: it reads and appends, and owns nothing (ARCHITECTURE 3.7)."""

from app.migrate import execute

revision, down_revision = "0001", None


def upgrade() -> None:
    # A role outlives its database: another database of the same server may have made it already, or an administrator,
    # so that the owner need not be able to make roles.
    execute("""
        DO $$ BEGIN
            IF to_regrole('candour_app') IS NULL THEN
                CREATE ROLE candour_app NOINHERIT LOGIN;
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END $$
    """)
    # So that one URL is enough: its connections step down to this role. An owner that may not grant the role to itself
    # is told at the first such connection; where the application has a login of its own, it need not.
    execute("""
        DO $$ BEGIN
            GRANT candour_app TO CURRENT_USER;
        EXCEPTION WHEN insufficient_privilege THEN NULL;
        END $$
    """)
    execute("GRANT USAGE ON SCHEMA public TO candour_app")
    execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
