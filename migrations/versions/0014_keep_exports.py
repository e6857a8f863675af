"""Keep exports: what was asked for, how far the making of it has come, and pointers to what it found.

No content is kept. A pointer is to one version of a record that its caller was permitted to see when it was found; a
download reads and decides again. ``export_file`` says with which pointer, in their order, each file begins and which
one it ends before.
"""

from app.migrate import execute

revision, down_revision = "0014", "0013"


def upgrade() -> None:
    execute("""
        CREATE TABLE export_job (
            id uuid PRIMARY KEY,
            client_id text NOT NULL,
            -- SHA-256 of everything about the caller that a decision may depend on
            bound_to bytea NOT NULL,
            -- caller, address and parameters
            asked jsonb NOT NULL,
            -- whose records; null: everybody's
            patients bigint[],
            transaction_time timestamptz NOT NULL,
            state text NOT NULL DEFAULT 'making' CHECK (state IN ('making', 'made', 'failed', 'removed')),
            failure jsonb,
            failures smallint NOT NULL DEFAULT 0,
            -- where the making goes on
            place jsonb NOT NULL DEFAULT '{}',
            leased_by uuid,
            lease_until timestamptz NOT NULL DEFAULT now(),
            waits_since timestamptz NOT NULL DEFAULT now(),
            created_at timestamptz NOT NULL DEFAULT now(),
            expires_at timestamptz NOT NULL
        ) WITH (fillfactor = 50);
        CREATE INDEX export_job_waiting ON export_job (waits_since) WHERE state = 'making';
        CREATE TABLE export_pointer (
            job_id uuid NOT NULL REFERENCES export_job,
            deleted boolean NOT NULL,
            resource_type text NOT NULL,
            patient_key bigint NOT NULL,
            id text NOT NULL,
            version integer NOT NULL,
            PRIMARY KEY (job_id, deleted, resource_type, patient_key, id)
        );
        CREATE TABLE export_file (
            id uuid PRIMARY KEY,
            job_id uuid NOT NULL REFERENCES export_job,
            deleted boolean NOT NULL,
            resource_type text NOT NULL,
            place integer NOT NULL,
            first_patient bigint NOT NULL,
            first_id text NOT NULL,
            next_patient bigint,
            next_id text
        );
        CREATE INDEX export_file_job ON export_file (job_id);
        GRANT SELECT, INSERT, UPDATE, DELETE ON export_job TO candour_app;
        GRANT SELECT, INSERT, DELETE ON export_pointer, export_file TO candour_app;
    """)
