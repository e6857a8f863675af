"""What a server and its roles must be: each way to be otherwise is refused, with the statement that puts it right."""

import re
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from app.db import APPLICATION_ROLE, connect
from app.errors import NotStarted
from app.migrate import migrate
from app.rights import check_application, check_owner, check_server
from tests.servers import Server, a_database, named

WHERE = "db.example/records"
BODY = "public.audit_body"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def url(postgres: Server, template: str) -> AsyncIterator[str]:
    """A superuser's, of one database for all these tests: none of them leaves anything behind."""
    async with a_database(postgres, "rights", template=template) as name:
        yield postgres.url(database=name)


@pytest_asyncio.fixture(loop_scope="session")
async def trying(url: str) -> AsyncIterator[asyncpg.Connection]:
    """In a transaction of which nothing stays."""
    connection = await connect(url)
    await connection.execute("BEGIN")
    yield connection
    await connection.close()


async def test_a_database_as_the_migrations_leave_it_is_accepted(trying: asyncpg.Connection) -> None:
    await check_server(trying, WHERE)
    await check_owner(trying, WHERE)
    await check_application(trying, WHERE)


WRONG = [
    (f"ALTER ROLE {APPLICATION_ROLE} SUPERUSER", "is a superuser, or can make roles"),
    (f"ALTER ROLE {APPLICATION_ROLE} CREATEROLE", "is a superuser, or can make roles"),
    (
        f"CREATE ROLE mighty CREATEROLE; GRANT mighty TO {APPLICATION_ROLE}",
        "is a superuser, or can make roles",
    ),
    (f"ALTER TABLE {BODY} OWNER TO {APPLICATION_ROLE}", "owns the audit log"),
    (
        f"CREATE ROLE keeper; ALTER TABLE {BODY} OWNER TO keeper; GRANT keeper TO {APPLICATION_ROLE}",
        "owns the audit log",
    ),
    (f"GRANT UPDATE ON {BODY} TO {APPLICATION_ROLE}", "may change or remove entries"),
    (f"GRANT UPDATE (body) ON {BODY} TO {APPLICATION_ROLE}", "may change or remove entries"),
    (f"GRANT TRUNCATE ON public.audit_head TO {APPLICATION_ROLE}", "may change or remove entries"),
    ("GRANT DELETE ON public.audit_patient_head TO PUBLIC", "may change or remove entries"),
    (f"GRANT pg_write_all_data TO {APPLICATION_ROLE}", "may change or remove entries"),
    ("GRANT CREATE ON SCHEMA public TO PUBLIC", "may make objects in schema public"),
    (f"REVOKE INSERT ON public.audit_leaf FROM {APPLICATION_ROLE}", "lacks rights"),
    (f"REVOKE SELECT ON public.resource FROM {APPLICATION_ROLE}", "lacks rights"),
    (f"REVOKE EXECUTE ON FUNCTION public.audit_begin FROM {APPLICATION_ROLE}", "lacks rights"),
    (f"REVOKE USAGE ON SCHEMA public FROM {APPLICATION_ROLE}, PUBLIC", "lacks rights"),
    (f"ALTER ROLE {APPLICATION_ROLE} RENAME TO somebody", "its server has no role candour_app"),
]


@pytest.mark.parametrize(("change", "said"), WRONG)
async def test_an_application_that_may_too_much_or_too_little_is_refused(
    trying: asyncpg.Connection, change: str, said: str
) -> None:
    await trying.execute(change)
    with pytest.raises(NotStarted) as refused:
        await check_application(trying, WHERE)
    assert said in str(refused.value) and WHERE in str(refused.value)
    assert "docs/operations/postgresql.md" in str(refused.value)


@pytest.mark.parametrize(("change", "said"), [one for one in WRONG if "GRANT" in one[0][:5]])
async def test_what_the_refusal_says_to_run_puts_it_right(
    trying: asyncpg.Connection, change: str, said: str
) -> None:
    await trying.execute(change)
    with pytest.raises(NotStarted) as refused:
        await check_application(trying, WHERE)
    statements = re.findall(r"(?:ALTER|REVOKE) [^;.]+", str(refused.value))
    if "pg_write_all_data" in change:
        statements = [f"REVOKE pg_write_all_data FROM {APPLICATION_ROLE}"]
    for statement in statements:
        await trying.execute(statement)
    await check_application(trying, WHERE)


async def test_an_owner_needs_no_superuser(trying: asyncpg.Connection) -> None:
    await trying.execute("CREATE ROLE keeper; ALTER SCHEMA public OWNER TO keeper; SET LOCAL ROLE keeper")
    await check_owner(trying, WHERE)


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        ("CREATE ROLE guest; SET LOCAL ROLE guest", 'ALTER SCHEMA public OWNER TO "guest"'),
        (f"SET LOCAL ROLE {APPLICATION_ROLE}", "must own nothing, and so cannot migrate"),
        (
            f"CREATE ROLE keeper; ALTER SCHEMA public OWNER TO keeper; ALTER ROLE {APPLICATION_ROLE} RENAME TO x; "
            "SET LOCAL ROLE keeper",
            "CREATE ROLE candour_app LOGIN NOINHERIT",
        ),
    ],
)
async def test_an_owner_that_cannot_migrate_is_told_what_is_missing(
    trying: asyncpg.Connection, prepare: str, said: str
) -> None:
    await trying.execute(prepare)
    with pytest.raises(NotStarted) as refused:
        await check_owner(trying, WHERE)
    assert said in str(refused.value)


async def test_another_encoding_is_refused(postgres: Server) -> None:
    options = "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    admin = await connect(postgres.url(database="postgres"))
    await admin.execute(f"CREATE DATABASE {named('latin')} {options}")
    with pytest.raises(NotStarted, match="has the encoding LATIN1"):
        await migrate(postgres.url(database=named("latin")))
    await admin.execute(f"DROP DATABASE {named('latin')}")
    await admin.close()


async def test_a_schema_of_a_newer_release_is_refused_by_both_names(url: str) -> None:
    connection = await connect(url)
    [known] = [row[0] for row in await connection.fetch("SELECT version_num FROM public.alembic_version")]
    await connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(
        NotStarted, match=rf"schema \(9999\) is of a newer release .* than this one \({known}\)"
    ):
        await migrate(url)
    await connection.execute("UPDATE alembic_version SET version_num = $1", known)
    await connection.close()
    assert await migrate(url) == known


async def test_the_applications_login_finds_a_migrated_database_and_changes_nothing(
    postgres: Server, url: str
) -> None:
    application = postgres.url(user=APPLICATION_ROLE, database=named("rights"))
    assert await migrate(application) == await migrate(url)


async def test_a_migration_that_would_leave_the_log_open_is_taken_back(
    postgres: Server, template: str
) -> None:
    async with a_database(postgres, "open") as name:
        connection = await connect(postgres.url(database=name))
        await connection.execute(f"GRANT CREATE ON SCHEMA public TO {APPLICATION_ROLE}")
        with pytest.raises(NotStarted, match="may make objects in schema public"):
            await migrate(postgres.url(database=name))
        assert await connection.fetchval("SELECT to_regclass('public.audit_leaf') IS NULL")
        await connection.execute(f"REVOKE CREATE ON SCHEMA public FROM {APPLICATION_ROLE}")
        await migrate(postgres.url(database=name))
        assert await connection.fetchval("SELECT to_regclass('public.audit_leaf') IS NOT NULL")
        await connection.close()
