"""Append in one statement: ``audit_grow`` itself sees to durability and to how long it waits.

A process that appended last may go on from the head it left, without asking for it under the lock first. The same
function is the guard in both cases: it locks the head and refuses unless the tree still has the size it goes on from.
"""

from app.migrate import execute

revision, down_revision = "0007", "0006"


def upgrade() -> None:
    execute("""
        CREATE OR REPLACE FUNCTION audit_grow(
            size_before bigint, size_after bigint, new_frontier bytea, new_root bytea, new_time bigint,
            keys bigint[], numbers bigint[], links bytea[]
        ) RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER
        SET search_path = pg_catalog, public, pg_temp AS $$
        BEGIN
            -- A role's or a pooler's default must not make an acknowledged entry less than durable.
            PERFORM set_config('synchronous_commit', 'on', true);
            PERFORM set_config('lock_timeout', '5s', true);
            UPDATE audit_head
                SET size = size_after, frontier = new_frontier, root = new_root, last_time = new_time
                WHERE size = size_before AND size_after > size_before;
            IF NOT FOUND THEN
                RAISE EXCEPTION 'the tree of the audit log has another size'
                    USING ERRCODE = 'serialization_failure';
            END IF;
            INSERT INTO audit_patient_head AS head (patient_key, psn, commitment)
                SELECT * FROM unnest(keys, numbers, links)
                ON CONFLICT (patient_key) DO UPDATE
                SET psn = excluded.psn, commitment = excluded.commitment WHERE head.psn < excluded.psn;
        END $$;
    """)
