"""Trust no names in schema public: what runs as the owner looks nothing up where others may make objects.

In PostgreSQL 14, as in databases that come from it, every role may make objects in ``public`` until its owner forbids
it. A function there with the exact types of a call is preferred to one of ``pg_catalog`` that takes any type, and would
have run with the owner's rights. Also lets the application read the schema's revision, so that it can be served without
its owner's login.
"""

from app.migrate import execute

revision, down_revision = "0011", "0010"


def upgrade() -> None:
    execute("""
        CREATE OR REPLACE FUNCTION audit_lock(
            keys bigint[], ids uuid[],
            OUT size bigint, OUT frontier bytea, OUT last_time bigint,
            OUT head_keys bigint[], OUT head_numbers bigint[], OUT head_links bytea[],
            OUT known_ids uuid[], OUT known_indices bigint[], OUT known_leaves bytea[]
        ) LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            -- A role's or a pooler's default must not make an acknowledged entry less than durable.
            PERFORM set_config('synchronous_commit', 'on', true);
            PERFORM set_config('lock_timeout', '5s', true);
            SELECT h.size, h.frontier, h.last_time INTO STRICT size, frontier, last_time
                FROM public.audit_head h FOR UPDATE;
            SELECT array_agg(p.patient_key), array_agg(p.psn), array_agg(p.commitment)
                INTO head_keys, head_numbers, head_links
                FROM public.audit_patient_head p WHERE p.patient_key = ANY (keys);
            IF cardinality(ids) > 0 THEN
                SELECT array_agg(l.entry_id), array_agg(l.idx), array_agg(l.leaf)
                    INTO known_ids, known_indices, known_leaves
                    FROM public.audit_leaf l WHERE l.entry_id = ANY (ids);
            END IF;
        END $$;
        CREATE OR REPLACE FUNCTION audit_grow(
            size_before bigint, size_after bigint, new_frontier bytea, new_root bytea, new_time bigint,
            keys bigint[], numbers bigint[], links bytea[]
        ) RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            PERFORM set_config('synchronous_commit', 'on', true);
            PERFORM set_config('lock_timeout', '5s', true);
            UPDATE public.audit_head
                SET size = size_after, frontier = new_frontier, root = new_root, last_time = new_time
                WHERE size = size_before AND size_after > size_before;
            IF NOT FOUND THEN
                RAISE EXCEPTION 'the tree of the audit log has another size'
                    USING ERRCODE = 'serialization_failure';
            END IF;
            INSERT INTO public.audit_patient_head AS head (patient_key, psn, commitment)
                SELECT * FROM unnest(keys, numbers, links)
                ON CONFLICT (patient_key) DO UPDATE
                SET psn = excluded.psn, commitment = excluded.commitment WHERE head.psn < excluded.psn;
        END $$;
        CREATE OR REPLACE FUNCTION audit_begin(new_origin text) RETURNS text LANGUAGE plpgsql VOLATILE SECURITY DEFINER
        SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            UPDATE public.audit_head SET origin = new_origin WHERE origin = '' AND new_origin <> '';
            RETURN (SELECT h.origin FROM public.audit_head h);
        END $$;
        -- The triggers run as whoever changes a table, the owner's functions above among them.
        ALTER FUNCTION audit_refuse() SET search_path = pg_catalog, pg_temp;
        ALTER FUNCTION audit_only_grow() SET search_path = pg_catalog, pg_temp;
        GRANT SELECT ON alembic_version TO candour_app;
    """)
