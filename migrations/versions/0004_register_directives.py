"""Register patients' directives: one row for every version of every Consent; what was withdrawn stays.

A row is never changed: a superseded version still holds its place in its slot, so that nothing older comes to life.
"""

from app.migrate import execute

revision, down_revision = "0004", "0003"


def upgrade() -> None:
    execute("""
        CREATE TABLE directive (
            patient_key bigint NOT NULL,
            consent_id text NOT NULL,
            version integer NOT NULL,
            slot text NOT NULL,
            status text NOT NULL,
            recorded_at timestamptz NOT NULL,
            -- Exact text of format directive-1; not jsonb, which would not give the same bytes back.
            body text NOT NULL,
            PRIMARY KEY (patient_key, consent_id, version)
        );
        GRANT SELECT, INSERT ON directive TO candour_app;
    """)
