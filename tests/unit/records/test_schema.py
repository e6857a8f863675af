"""Rules of the plan that the schema itself must keep."""

from app.db import Database

PATIENT_OWNED = ("resource", "resource_history", "index_date", "index_string", "index_quantity", "directive")


async def test_every_unique_key_of_a_patients_table_contains_the_patient(owner: Database) -> None:
    async with owner.connection() as connection:
        rows = await connection.fetch(
            """
            SELECT t.relname AS owned, i.relname AS name, array_agg(a.attname::text) AS columns
            FROM pg_index x
            JOIN pg_class t ON t.oid = x.indrelid
            JOIN pg_class i ON i.oid = x.indexrelid
            JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = ANY (x.indkey)
            WHERE x.indisunique AND t.relname = ANY ($1)
            GROUP BY t.relname, i.relname
            """,
            list(PATIENT_OWNED),
        )
    assert {row["owned"] for row in rows} >= {"resource", "resource_history", "directive"}
    assert [row["name"] for row in rows if "patient_key" not in row["columns"]] == []


async def test_a_patients_search_goes_through_their_own_key(owner: Database) -> None:
    async with owner.connection() as connection:
        await connection.execute("SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off")
        plan = await connection.fetch(
            "EXPLAIN SELECT id FROM resource WHERE patient_key = ANY ('{1}') AND resource_type = 'Observation' "
            "AND 7 = ANY (tokens)"
        )
    text = "\n".join(row[0] for row in plan)
    assert "resource_pkey" in text and "resource_tokens" not in text


async def test_a_search_of_everybody_goes_through_the_index_of_tokens(owner: Database) -> None:
    async with owner.connection() as connection:
        await connection.execute("SET enable_seqscan = off")
        plan = await connection.fetch(
            "EXPLAIN SELECT id FROM resource WHERE home AND tokens && ARRAY[7]::bigint[]"
        )
    assert "resource_tokens" in "\n".join(row[0] for row in plan)


async def test_the_application_cannot_change_the_past(database: Database) -> None:
    async with database.connection() as connection:
        allowed = await connection.fetch(
            """
            SELECT table_name, privilege_type FROM information_schema.role_table_grants
            WHERE grantee = 'candour_app' AND table_name = ANY ($1)
            """,
            ["audit_leaf", "audit_body", "audit_head", "resource_history"],
        )
    assert {row["privilege_type"] for row in allowed} <= {"SELECT", "INSERT"}


async def test_what_runs_as_the_owner_looks_no_name_up_where_others_may_make_objects(owner: Database) -> None:
    async with owner.connection() as connection:
        rows = await connection.fetch(
            "SELECT proname, proconfig FROM pg_proc WHERE prosecdef AND pronamespace = 'public'::regnamespace"
        )
    assert {row["proname"] for row in rows} >= {"audit_lock", "audit_grow", "audit_begin"}
    assert {tuple(row["proconfig"]) for row in rows} == {("search_path=pg_catalog, pg_temp",)}


async def test_a_function_of_the_applications_own_is_not_run_as_the_owner(
    owner: Database, database: Database
) -> None:
    """Where PUBLIC may make objects in schema public, as it may in every PostgreSQL 14."""
    async with owner.connection() as connection:
        await connection.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")
    async with database.connection() as connection:
        # An exact match, where pg_catalog has only cardinality(anyarray).
        await connection.execute(
            "CREATE FUNCTION public.cardinality(uuid[]) RETURNS integer LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'this ran as %', current_user; END $$"
        )
        await connection.execute(
            "SELECT audit_lock('{}', ARRAY['00000000-0000-0000-0000-000000000000']::uuid[])"
        )
