"""Register the clients that may ask, and remember used assertions until they expire."""

from app.migrate import execute

revision, down_revision = "0003", "0002"


def upgrade() -> None:
    execute("""
        CREATE TABLE client (
            client_id text PRIMARY KEY CHECK (length(client_id) BETWEEN 1 AND 255),
            name text NOT NULL,
            kind text NOT NULL CHECK (kind IN ('system', 'node')),
            organisation text NOT NULL,
            organisation_name text NOT NULL DEFAULT '',
            jwks jsonb NOT NULL CHECK (coalesce(jsonb_typeof(jwks -> 'keys'), '') = 'array'),
            scopes text[] NOT NULL CHECK (cardinality(scopes) > 0),
            purposes text[] NOT NULL CHECK (cardinality(purposes) > 0),
            -- Roles that the client may attest of its users; empty: it may attest any.
            roles text[] NOT NULL DEFAULT '{}',
            -- May use the purposes ETREAT and BTG.
            emergency boolean NOT NULL DEFAULT false,
            active boolean NOT NULL DEFAULT true,
            created_at timestamptz NOT NULL DEFAULT now()
        );
        -- The first to insert a jti has used it: correct with any number of processes.
        CREATE TABLE assertion_jti (
            client_id text NOT NULL,
            jti text NOT NULL,
            expires_at timestamptz NOT NULL,
            PRIMARY KEY (client_id, jti)
        );
        CREATE INDEX assertion_jti_expiry ON assertion_jti (expires_at);
        GRANT SELECT, INSERT, UPDATE ON client TO candour_app;
        GRANT SELECT, INSERT, DELETE ON assertion_jti TO candour_app;
    """)
