"""What a server and its roles must be, before anything is served from it (ARCHITECTURE 3.4, 3.7).

Each function raises NotStarted, with a sentence that says what is wrong and which statement puts it right;
docs/operations/postgresql.md tells the whole of it.
"""

from typing import Any, Final

import asyncpg

from app.db import APPLICATION_ROLE
from app.errors import NotStarted

OLDEST_POSTGRES: Final = 14
_MORE: Final = "docs/operations/postgresql.md has the whole of it."


async def check_server(connection: asyncpg.Connection, where: str) -> None:
    """Old enough servers lack what the statements need; other encodings cannot hold every record."""
    settings = connection.get_settings()
    if connection.get_server_version().major < OLDEST_POSTGRES:
        raise NotStarted(
            f"Candour needs PostgreSQL {OLDEST_POSTGRES} or newer; the server at {where} is "
            f"PostgreSQL {settings.server_version}. Upgrade it, or give DATABASE_URL another."
        )
    if await connection.fetchval("SELECT pg_is_in_recovery()"):
        raise NotStarted(
            f"The server at {where} is a standby, which takes no audit entries. Give DATABASE_URL its primary."
        )
    encoding = await connection.fetchval("SHOW server_encoding")
    if encoding != "UTF8":
        raise NotStarted(
            f"The database at {where} has the encoding {encoding}, which cannot hold every record. "
            "Make another: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0."
        )


async def check_owner(connection: asyncpg.Connection, where: str) -> None:
    """Whoever migrates makes tables and, the first time, the application's role. A superuser is not needed."""
    row = await connection.fetchrow(_OWNER, APPLICATION_ROLE)
    login = row["login"]
    if login == APPLICATION_ROLE:
        raise NotStarted(
            f"{APPLICATION_ROLE} is the role that the application runs as: it must own nothing, and so cannot migrate. "
            f"Give the login of the database's owner in DATABASE_OWNER_URL. {_MORE}"
        )
    if not row["creates"]:
        raise NotStarted(
            f'The login "{login}" may not make tables in schema public of the database at {where}. Give the login '
            "of the database's owner in DATABASE_OWNER_URL; with PostgreSQL 14, let an administrator also run there: "
            f'ALTER SCHEMA public OWNER TO "{login}". {_MORE}'
        )
    if not (row["role_exists"] or row["makes_roles"]):
        raise NotStarted(
            f'The login "{login}" may not create the role that the application runs as. Let an administrator run: '
            f"CREATE ROLE {APPLICATION_ROLE} LOGIN NOINHERIT PASSWORD '…'. {_MORE}"
        )


async def check_application(connection: asyncpg.Connection, where: str) -> None:
    """The application's role can do its work, and cannot change the past, also not by way of another role."""
    if await connection.fetchval("SELECT to_regrole($1) IS NULL", APPLICATION_ROLE):
        raise NotStarted(
            f"The database at {where} has Candour's tables, but its server has no role {APPLICATION_ROLE}. "
            f"A backup is restored after CREATE ROLE {APPLICATION_ROLE} LOGIN NOINHERIT, with its grants. {_MORE}"
        )
    row = await connection.fetchrow(_APPLICATION, APPLICATION_ROLE)
    for name, wrong in _WRONG.items():
        if row[name]:
            raise NotStarted(f"At {where}, {wrong.format(role=APPLICATION_ROLE, **_values(row))} {_MORE}")


def _values(row: Any) -> dict[str, str]:
    return {"owner": str(row["owner"])}


_OWNER: Final = """
    SELECT current_user::text AS login,
        coalesce(has_schema_privilege(to_regnamespace('public')::oid, 'CREATE'), false) AS creates,
        to_regrole($1) IS NOT NULL AS role_exists,
        (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user) AS makes_roles
"""

# "Reached": the role itself, and whatever SET ROLE would make of it. A superuser is a member of every role.
_APPLICATION: Final = """
    WITH log AS (
        SELECT oid, relowner FROM pg_class
        WHERE oid = ANY (ARRAY['public.audit_leaf', 'public.audit_body', 'public.audit_head',
                               'public.audit_patient_head']::regclass[])
    ), reached AS (
        SELECT oid, rolsuper OR rolcreaterole AS mighty FROM pg_roles WHERE pg_has_role($1::text, oid, 'MEMBER')
    )
    SELECT
        (SELECT bool_or(mighty) FROM reached) AS mighty,
        (SELECT bool_or(relowner = reached.oid) FROM log, reached) AS owns,
        (SELECT bool_or(has_table_privilege(reached.oid, log.oid, 'UPDATE, DELETE, TRUNCATE')
                        OR has_any_column_privilege(reached.oid, log.oid, 'UPDATE')) FROM log, reached) AS changes,
        (SELECT bool_or(has_schema_privilege(oid, 'public', 'CREATE')) FROM reached) AS creates,
        NOT (has_schema_privilege($1::text, 'public', 'USAGE')
             AND has_table_privilege($1::text, 'public.resource', 'SELECT')
             AND has_table_privilege($1::text, 'public.audit_leaf', 'INSERT')
             AND has_function_privilege($1::text, 'public.audit_begin(text)', 'EXECUTE')) AS lacks,
        (SELECT quote_ident(rolname) FROM pg_roles JOIN log ON log.relowner = pg_roles.oid LIMIT 1) AS owner
"""

_WRONG: Final = {
    "mighty": "the role {role} is a superuser, or can make roles: it could rewrite the audit log. "
    "Let an administrator run: ALTER ROLE {role} NOSUPERUSER NOCREATEROLE, and revoke the roles it is a member of.",
    "owns": "the role {role} owns the audit log, or is a member of the role that does: it could rewrite it. "
    "Let an administrator run: REVOKE {owner} FROM {role}.",
    "changes": "the role {role} may change or remove entries of the audit log. Let its owner run: "
    "REVOKE UPDATE, DELETE, TRUNCATE ON audit_leaf, audit_body, audit_head, audit_patient_head FROM {role}, PUBLIC.",
    "creates": "the role {role} may make objects in schema public, and so slip functions of its own under "
    "the owner's statements. Let an administrator run there: ALTER SCHEMA public OWNER TO {owner}; "
    "REVOKE CREATE ON SCHEMA public FROM {role}, PUBLIC.",
    "lacks": "the role {role} lacks rights to Candour's tables, as after a backup was restored without its grants. "
    "Restore it with them.",
}
"""In the order in which they are told: who is mighty could do all the rest."""
