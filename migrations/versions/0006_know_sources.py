"""Know the sources that are asked beside this node's own store, and freeze federated answers for paging."""

from app.migrate import execute

revision, down_revision = "0006", "0005"


def upgrade() -> None:
    execute("""
        CREATE TABLE source (
            ods_code text PRIMARY KEY,
            name text NOT NULL DEFAULT '',
            kind text NOT NULL CHECK (kind IN ('candour', 'fhir')),
            base_url text NOT NULL,
            token_url text,
            client_id text,
            active boolean NOT NULL DEFAULT true,
            quarantined_at timestamptz,
            added_at timestamptz NOT NULL DEFAULT now()
        );
        -- A server asked under two names would answer everything twice.
        CREATE UNIQUE INDEX source_address ON source (base_url) WHERE active;
        -- A person's Patients at a source, found by NHS number: the ids to ask for, and all that these reach there.
        -- Only ever a saving of time: every use is checked against the number again.
        CREATE TABLE source_patient (
            ods_code text NOT NULL REFERENCES source ON DELETE CASCADE,
            person_key bigint NOT NULL,
            asked text[] NOT NULL,
            linked text[] NOT NULL,
            seen_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (person_key, ods_code)
        );
        -- A federated answer, frozen so that it can be paged. The key to the payload is only in the page link.
        CREATE UNLOGGED TABLE result_set (
            id uuid PRIMARY KEY,
            person_key bigint NOT NULL,
            payload bytea NOT NULL,
            expires_at timestamptz NOT NULL
        );
        CREATE INDEX result_set_expiry ON result_set (expires_at);
        GRANT SELECT, INSERT, UPDATE, DELETE ON source, source_patient, result_set TO candour_app;
    """)
