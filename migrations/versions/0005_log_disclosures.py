"""Log disclosures: entries, the tree over them, and who may touch either.

``audit_leaf`` is narrow and permanent: level 0 of the tree. ``audit_body`` holds what is personal, and can be
erased. Neither can be changed: the application may only add, and triggers that also bind the owner refuse the rest.
The tree's head is written by two functions only, which let it grow and nothing else.
A superuser can still undo all of this; the tree is what shows it then.
"""

from app.migrate import execute

revision, down_revision = "0005", "0004"


def upgrade() -> None:
    execute("""
        CREATE TABLE audit_leaf (
            idx bigint PRIMARY KEY CHECK (idx >= 0),
            entry_id uuid NOT NULL UNIQUE,
            leaf bytea NOT NULL,
            leaf_hash bytea NOT NULL
        );
        CREATE TABLE audit_body (
            idx bigint PRIMARY KEY CHECK (idx >= 0),
            recorded timestamptz NOT NULL,
            patient_key bigint NOT NULL,
            person_key bigint NOT NULL,
            client_id text NOT NULL,
            outcome text NOT NULL,
            interaction text NOT NULL,
            trace_id uuid NOT NULL,
            -- the patient link: its place in the patient's own chain, and the salt of its commitment
            psn bigint NOT NULL,
            link_salt bytea NOT NULL,
            -- what an erasure takes away
            body bytea,
            salt bytea
        );
        CREATE INDEX audit_body_patient ON audit_body (patient_key, idx);
        CREATE INDEX audit_body_trace ON audit_body (trace_id);
        CREATE INDEX audit_body_recorded ON audit_body USING brin (recorded);
    """)
    execute("""
        CREATE TABLE audit_head (
            single boolean PRIMARY KEY DEFAULT true CHECK (single),
            origin text NOT NULL DEFAULT '',
            size bigint NOT NULL DEFAULT 0,
            frontier bytea NOT NULL DEFAULT '',
            root bytea NOT NULL DEFAULT sha256(''),
            last_time bigint NOT NULL DEFAULT 0
        ) WITH (fillfactor = 10);
        INSERT INTO audit_head DEFAULT VALUES;
        -- The last link of each patient's chain: a cache that the leaves and bodies can rebuild.
        CREATE TABLE audit_patient_head (
            patient_key bigint PRIMARY KEY,
            psn bigint NOT NULL,
            commitment bytea NOT NULL
        ) WITH (fillfactor = 70);
    """)
    execute("""
        CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'the audit log is only ever added to' USING ERRCODE = 'insufficient_privilege';
        END $$;
        CREATE FUNCTION audit_only_grow() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.size < OLD.size OR NEW.last_time < OLD.last_time
               OR (NEW.size = OLD.size AND (NEW.root, NEW.frontier) IS DISTINCT FROM (OLD.root, OLD.frontier))
               OR (OLD.origin <> '' AND NEW.origin <> OLD.origin) THEN
                RAISE EXCEPTION 'the tree of the audit log only ever grows'
                    USING ERRCODE = 'insufficient_privilege';
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_leaf
            FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
        CREATE TRIGGER refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_body
            FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
        CREATE TRIGGER refuse BEFORE INSERT OR DELETE OR TRUNCATE ON audit_head
            FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
        CREATE TRIGGER only_grow BEFORE UPDATE ON audit_head
            FOR EACH ROW EXECUTE FUNCTION audit_only_grow();
        -- ALWAYS: session_replication_role = replica would skip an ordinary trigger.
        ALTER TABLE audit_leaf ENABLE ALWAYS TRIGGER refuse;
        ALTER TABLE audit_body ENABLE ALWAYS TRIGGER refuse;
        ALTER TABLE audit_head ENABLE ALWAYS TRIGGER refuse;
        ALTER TABLE audit_head ENABLE ALWAYS TRIGGER only_grow;
    """)
    # Takes the head's lock, and only then looks: each statement of a volatile function has a snapshot of its own,
    # so the patients' heads are those of the batch before, whoever wrote it. The transaction's end frees the lock.
    execute("""
        CREATE FUNCTION audit_lock(
            keys bigint[], ids uuid[],
            OUT size bigint, OUT frontier bytea, OUT last_time bigint,
            OUT head_keys bigint[], OUT head_numbers bigint[], OUT head_links bytea[],
            OUT known_ids uuid[], OUT known_indices bigint[], OUT known_leaves bytea[]
        ) LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
        BEGIN
            -- A role's or a pooler's default must not make an acknowledged entry less than durable.
            PERFORM set_config('synchronous_commit', 'on', true);
            PERFORM set_config('lock_timeout', '5s', true);
            SELECT h.size, h.frontier, h.last_time INTO STRICT size, frontier, last_time
                FROM audit_head h FOR UPDATE;
            SELECT array_agg(p.patient_key), array_agg(p.psn), array_agg(p.commitment)
                INTO head_keys, head_numbers, head_links
                FROM audit_patient_head p WHERE p.patient_key = ANY (keys);
            IF cardinality(ids) > 0 THEN
                SELECT array_agg(l.entry_id), array_agg(l.idx), array_agg(l.leaf)
                    INTO known_ids, known_indices, known_leaves
                    FROM audit_leaf l WHERE l.entry_id = ANY (ids);
            END IF;
        END $$;
        CREATE FUNCTION audit_grow(
            size_before bigint, size_after bigint, new_frontier bytea, new_root bytea, new_time bigint,
            keys bigint[], numbers bigint[], links bytea[]
        ) RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER
        SET search_path = pg_catalog, public, pg_temp AS $$
        BEGIN
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
        CREATE FUNCTION audit_begin(new_origin text) RETURNS text LANGUAGE plpgsql VOLATILE SECURITY DEFINER
        SET search_path = pg_catalog, public, pg_temp AS $$
        BEGIN
            UPDATE audit_head SET origin = new_origin WHERE origin = '' AND new_origin <> '';
            RETURN (SELECT h.origin FROM audit_head h);
        END $$;
        REVOKE ALL ON FUNCTION audit_lock, audit_grow, audit_begin FROM PUBLIC;
        GRANT EXECUTE ON FUNCTION audit_lock, audit_grow, audit_begin TO candour_app;
        GRANT SELECT, INSERT ON audit_leaf, audit_body TO candour_app;
        GRANT SELECT ON audit_head, audit_patient_head TO candour_app;
    """)
