"""A PostgreSQL of the operator's own, in each way to give it: migrated, served, its audit log out of the service's
reach, gone and back; and refused at the start, with a sentence, where it is not what it must be.
"""

import asyncio
import socketserver
import struct
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

import asyncpg
import httpx
import pytest

from app.audit.tables import bodies, head, leaves, patient_heads
from app.db import APPLICATION_ROLE, Database
from app.embedded import EmbeddedPostgres
from app.errors import DatabaseUnavailable, NotStarted
from app.migrate import migrate
from tests.processes import Home, System, free_port
from tests.servers import Server, given_server, named
from tests.world import a_patient

RX1 = System("rx1", "RX1")
AUDIT_TABLES = [one.name for one in (leaves, bodies, head, patient_heads)]
PASSWORD = "p@ss/w?rd#%7"
_HBA = "local all postgres trust\nlocal all all scram-sha-256\n"


@dataclass(frozen=True)
class Administrator:
    """Who runs the server, and makes there what docs/operations/postgresql.md asks for."""

    server: Server
    application_password: str

    def run(self, *statements: str, database: str = "postgres") -> None:
        async def run(connection: asyncpg.Connection) -> None:
            for statement in statements:
                await connection.execute(statement)

        self.look(run, database)

    def look(self, work: Callable[[asyncpg.Connection], Awaitable[Any]], database: str = "postgres") -> Any:
        async def connected() -> Any:
            connection = await asyncpg.connect(self.server.url(database=database))
            try:
                return await work(connection)
            finally:
                await connection.close()

        return asyncio.run(connected())

    def version(self) -> int:
        async def look(connection: asyncpg.Connection) -> int:
            return int(connection.get_server_version().major)

        return int(self.look(look))

    def url(self, login: str, database: str, password: str | None = None) -> str:
        """With its password, encoded as a URL wants it."""
        known = self.application_password if login == APPLICATION_ROLE else PASSWORD
        parts = urlsplit(self.server.url(database=database))
        host = parts.netloc.rpartition("@")[2]
        chosen = quote(known if password is None else password, safe="")
        return parts._replace(netloc=f"{login}:{chosen}@{host}").geturl()

    def make_login(self, login: str, options: str = "") -> str:
        self.run(f"CREATE ROLE {login} LOGIN PASSWORD '{PASSWORD}' {options}")
        return login

    def make_database(self, database: str, owner: str) -> str:
        self.run(f"CREATE DATABASE {database} OWNER {owner} TEMPLATE template0")
        if self.version() == 14:
            self.run(f"ALTER SCHEMA public OWNER TO {owner}", database=database)
        return database

    def forget(self, databases: list[str], logins: list[str]) -> None:
        self.run(*(f"DROP DATABASE IF EXISTS {one} WITH (FORCE)" for one in databases))
        self.run(*(f"DROP ROLE IF EXISTS {one}" for one in logins))


@pytest.fixture(scope="module")
def administrator() -> Iterator[Administrator]:
    """Of the given server, or of an embedded one that wants passwords as others do."""
    given = given_server()
    if given is not None:
        given.introduce()
        yield Administrator(given, unquote(urlsplit(given.url()).password or ""))
        return
    with tempfile.TemporaryDirectory(prefix="candour-operators-", ignore_cleanup_errors=True) as home:
        server = EmbeddedPostgres(Path(home))
        server.start()
        made = Administrator(server, PASSWORD)
        made.run(f"CREATE ROLE {APPLICATION_ROLE} LOGIN NOINHERIT PASSWORD '{PASSWORD}'")
        (server.home / "postgres" / "pg_hba.conf").write_text(_HBA)
        made.run("SELECT pg_reload_conf()")
        yield made
        server.stop()


WAYS = ["superuser", "owner", "owner and application", "owner and login", "application alone"]


@pytest.fixture(scope="module", params=WAYS)
def node(
    request: pytest.FixtureRequest, administrator: Administrator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Home]:
    """A service on a database of that server, empty at first."""
    owner, login, database = named("owner"), named("login"), named("operators")
    administrator.make_login(owner)
    administrator.make_login(login, f"IN ROLE {APPLICATION_ROLE}")
    administrator.make_database(database, owner)
    # Were the role's own search path followed, the tables would be in this schema.
    administrator.run(f"CREATE SCHEMA {owner} AUTHORIZATION {owner}", database=database)
    given = _given(administrator, request.param, owner, login, database)
    home = Home(
        tmp_path_factory.mktemp("given") / "home",
        free_port(),
        {**given, "CANDOUR_CUSTODIANS": "RX1", "CANDOUR_NODE_NAME": "given.example"},
    )
    with home.serving():
        home.register(RX1.registration())
        yield home
    administrator.forget([database], [owner, login])


def _given(administrator: Administrator, way: str, owner: str, login: str, database: str) -> dict[str, str]:
    owner_url = administrator.url(owner, database)
    application_url = administrator.url(APPLICATION_ROLE, database)
    if way == "owner":
        administrator.run(f"GRANT {APPLICATION_ROLE} TO {owner}")
    if way == "application alone":
        asyncio.run(migrate(owner_url))
    return {
        "superuser": {"DATABASE_URL": administrator.server.url(database=database)},
        "owner": {"DATABASE_URL": owner_url},
        "owner and application": {"DATABASE_URL": application_url, "DATABASE_OWNER_URL": owner_url},
        "owner and login": {
            "DATABASE_URL": administrator.url(login, database),
            "DATABASE_OWNER_URL": owner_url,
        },
        "application alone": {"DATABASE_URL": application_url},
    }[way]


def _as_superuser(administrator: Administrator, *statements: str) -> None:
    administrator.run(*statements, database=named("operators"))


def test_it_serves_and_records(node: Home) -> None:
    bearer = RX1.bearer(node)
    made = httpx.put(f"{node.base}/Patient/p1", json=a_patient("p1"), headers=bearer)
    assert made.status_code == 201, made.text
    assert httpx.get(f"{node.base}/Patient/p1", headers=bearer).status_code == 200
    assert not (node.path / "postgres").exists(), "no embedded server beside the one given"
    verified = node.candour("verify")
    assert verified.stdout.startswith("The audit log is whole: 2 entries"), verified.stderr


@pytest.mark.parametrize("table", AUDIT_TABLES)
@pytest.mark.parametrize(
    "verb", ["DELETE FROM {}", "TRUNCATE {}", "DROP TABLE {}", "ALTER TABLE {} DISABLE TRIGGER ALL"]
)
@pytest.mark.usefixtures("node")
def test_the_applications_role_cannot_change_the_past(
    administrator: Administrator, verb: str, table: str
) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match=r"permission denied|must be owner"):
        _as_superuser(administrator, f"SET ROLE {APPLICATION_ROLE}", verb.format(table))


@pytest.mark.usefixtures("node")
def test_the_applications_role_cannot_rewrite_an_entry(administrator: Administrator) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied for table audit_body"):
        _as_superuser(administrator, f"SET ROLE {APPLICATION_ROLE}", "UPDATE audit_body SET body = body")


@pytest.mark.usefixtures("node")
def test_the_tables_are_in_schema_public_and_the_applications_role_owns_none(
    administrator: Administrator,
) -> None:
    async def look(connection: asyncpg.Connection) -> Any:
        return await connection.fetch(
            "SELECT DISTINCT relnamespace::regnamespace::text AS schema, relowner = to_regrole($1) AS its "
            "FROM pg_class WHERE relname = ANY ($2)",
            APPLICATION_ROLE,
            [*AUDIT_TABLES, "resource", "alembic_version"],
        )

    found = administrator.look(look, named("operators"))
    assert [(row["schema"], row["its"]) for row in found] == [("public", False)]


def test_the_service_runs_as_the_applications_role(node: Home, administrator: Administrator) -> None:
    """Whoever logs in, it is that role's rights that count: without them nothing leaves, and nobody is told why."""
    bearer = RX1.bearer(node)
    before = len(node.events())
    for right, status, recorded in (("SELECT ON resource", 500, 1), ("INSERT ON audit_leaf", 503, 0)):
        _as_superuser(administrator, f"REVOKE {right} FROM {APPLICATION_ROLE}")
        refused = httpx.get(f"{node.base}/Patient/p1", headers=bearer)
        _as_superuser(administrator, f"GRANT {right} TO {APPLICATION_ROLE}")
        assert refused.status_code == status, refused.text
        assert refused.json()["resourceType"] == "OperationOutcome"
        assert not any(word in refused.text for word in ("Okafor", "denied", "resource ", "audit_leaf"))
        assert len(node.events()) == before + recorded
        before += recorded
    assert httpx.get(f"{node.base}/Patient/p1", headers=bearer).status_code == 200


def test_a_database_that_is_gone_is_a_503_and_then_comes_back(
    node: Home, administrator: Administrator
) -> None:
    bearer, database = RX1.bearer(node), named("operators")
    administrator.run(
        f"ALTER DATABASE {database} ALLOW_CONNECTIONS false",
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'",
    )
    refused = [httpx.get(f"{node.base}/Patient/p1", headers=bearer) for _ in range(3)]
    ready = httpx.get(f"{node.root}/readyz").status_code
    administrator.run(f"ALTER DATABASE {database} ALLOW_CONNECTIONS true")
    assert [one.status_code for one in refused] == [503] * 3
    assert ready == 503
    assert all(one.headers["retry-after"].isdigit() and "Okafor" not in one.text for one in refused)
    _assert_back(node, bearer)


def _assert_back(node: Home, bearer: dict[str, str]) -> None:
    deadline = time.monotonic() + 20
    while httpx.get(f"{node.base}/Patient/p1", headers=bearer).status_code != 200:
        assert time.monotonic() < deadline, "it did not come back"
        time.sleep(0.05)
    assert httpx.get(f"{node.root}/readyz").status_code == 200
    verified = node.candour("verify")
    assert verified.stdout.startswith("The audit log is whole"), verified.stderr


def test_a_server_that_is_stopped_is_a_503_and_then_comes_back(
    node: Home, administrator: Administrator
) -> None:
    if not isinstance(administrator.server, EmbeddedPostgres):
        pytest.skip("a given server is not ours to stop")
    bearer = RX1.bearer(node)
    administrator.server.stop()
    refused = httpx.get(f"{node.base}/Patient/p1", headers=bearer, timeout=20)
    administrator.server.start()
    assert refused.status_code == 503, refused.text
    _assert_back(node, bearer)


# Refused at the start.


@pytest.fixture(scope="module")
def spare(administrator: Administrator) -> Iterator[tuple[str, str, str]]:
    """A migrated database, its owner, and a login that may do nothing there."""
    owner, guest, database = named("spare_owner"), named("guest"), named("spare")
    administrator.make_login(owner)
    administrator.make_login(guest)
    administrator.make_database(database, owner)
    asyncio.run(migrate(administrator.url(owner, database)))
    yield database, owner, guest
    administrator.forget([database], [owner, guest])


def test_an_owner_that_may_not_become_the_applications_role_is_told_what_to_grant(
    administrator: Administrator, spare: tuple[str, str, str], tmp_path: Path
) -> None:
    database, owner, _ = spare
    home = Home(tmp_path / "home", free_port(), {"DATABASE_URL": administrator.url(owner, database)})
    _assert_refused(home, f'Let an administrator run: GRANT {APPLICATION_ROLE} TO "{owner}".')


def test_a_wrong_password_of_the_applications_login_is_told_at_the_start(
    administrator: Administrator, spare: tuple[str, str, str], tmp_path: Path
) -> None:
    database, owner, _ = spare
    given = {
        "DATABASE_URL": administrator.url(APPLICATION_ROLE, database, "wr0ng-word"),
        "DATABASE_OWNER_URL": administrator.url(owner, database),
    }
    home = Home(tmp_path / "home", free_port(), given)
    told = _assert_refused(home, f"refuses the password of the login {APPLICATION_ROLE}")
    assert "wr0ng" not in told and PASSWORD not in told


def test_an_owners_url_alone_is_refused_and_no_embedded_server_started(tmp_path: Path) -> None:
    home = Home(
        tmp_path / "home", free_port(), {"DATABASE_OWNER_URL": "postgresql://keeper@db.example/records"}
    )
    _assert_refused(home, "DATABASE_OWNER_URL is given without DATABASE_URL")
    assert not (home.path / "postgres").exists()


def _assert_refused(home: Home, said: str) -> str:
    refused = home.candour("serve", seconds=30)
    assert refused.returncode == 2, refused.stderr
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr
    return refused.stderr


@pytest.mark.parametrize(
    ("login", "password", "database", "said"),
    [
        ("owner", "wr0ng-word", "spare", "refuses the password of the login"),
        ("nobody", "wr0ng-word", "spare", "refuses the password of the login nobody"),
        ("owner", None, "absent", "There is no such database on its server"),
        ("guest", None, "empty", "may not make tables in schema public"),
        ("application", None, "empty", "must own nothing, and so cannot migrate"),
        ("guest", None, "spare", "refused the migration"),
        ("owner", None, "template0", "not currently accepting connections"),
    ],
)
def test_a_login_that_cannot_migrate_is_told_why(
    administrator: Administrator,
    spare: tuple[str, str, str],
    login: str,
    password: str | None,
    database: str,
    said: str,
) -> None:
    names = {"owner": spare[1], "guest": spare[2], "application": APPLICATION_ROLE}
    databases = {"spare": spare[0], "empty": named("empty")}
    if database == "empty":
        administrator.make_database(named("empty"), spare[1])
        administrator.run("REVOKE CREATE ON SCHEMA public FROM PUBLIC", database=named("empty"))
    url = administrator.url(names.get(login, login), databases.get(database, database), password)
    with pytest.raises(NotStarted) as refused:
        asyncio.run(migrate(url))
    assert said in str(refused.value)
    assert PASSWORD not in str(refused.value) and "wr0ng" not in str(refused.value)
    administrator.forget([named("empty")], [])


def test_a_server_that_is_not_there_is_told_with_its_address() -> None:
    with pytest.raises(DatabaseUnavailable, match=r"database at 127\.0\.0\.1:9/records does not"):
        asyncio.run(migrate("postgresql://keeper:secret@127.0.0.1:9/records"))


@pytest.mark.parametrize("given", ["sslmode=disable", "sslmode=prefer", "target_session_attrs=primary"])
def test_a_url_may_say_what_libpq_understands(
    administrator: Administrator, spare: tuple[str, str, str], given: str
) -> None:
    """As the URLs of managed servers do."""
    url = administrator.url(spare[1], spare[0])
    revision = asyncio.run(migrate(f"{url}{'&' if '?' in url else '?'}{given}"))
    assert revision.isdigit()


@pytest.mark.parametrize("drops", [True, False])
async def test_a_pooler_that_drops_the_role_is_refused(
    administrator: Administrator, spare: tuple[str, str, str], tmp_path: Path, drops: bool
) -> None:
    """As PgBouncer does when it is told to ignore startup parameters: the service would run as whoever logs in."""
    server = urlsplit(administrator.server.url(database=spare[0]))

    async def pool(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        startup = await reader.readexactly(int.from_bytes(await reader.readexactly(4)) - 4)
        asked = f"role\0{APPLICATION_ROLE}\0".encode()
        assert asked in startup
        startup = startup.replace(asked, b"") if drops else startup
        up_reader, up_writer = await _connected_to(server)
        up_writer.write((len(startup) + 4).to_bytes(4) + startup)
        await asyncio.gather(_pass_on(reader, up_writer), _pass_on(up_reader, writer))

    login = server.netloc.rpartition("@")[0]
    url = server._replace(netloc=f"{login}@", query=f"host={tmp_path}").geturl()
    async with await asyncio.start_unix_server(pool, tmp_path / ".s.PGSQL.5432"):
        if drops:
            with pytest.raises(NotStarted, match=f"though it asked for the role {APPLICATION_ROLE}"):
                await Database.connect(url, role=APPLICATION_ROLE, size=1)
            return
        database = await Database.connect(url, role=APPLICATION_ROLE, size=1)
        await database.close()


async def _connected_to(server: SplitResult) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    folders = parse_qs(server.query).get("host")
    if folders:
        return await asyncio.open_unix_connection(f"{folders[0]}/.s.PGSQL.5432")
    return await asyncio.open_connection(server.hostname, server.port or 5432)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
    writer.close()


# Before PostgreSQL 14.


@pytest.mark.parametrize("version", ["13.23", "9.6.24", "12.22 (Debian 12.22-1)"])
def test_an_older_server_is_refused_by_a_sentence_with_both_versions(version: str) -> None:
    with _an_old_server(version) as url, pytest.raises(NotStarted) as refused:
        asyncio.run(migrate(url))
    assert "needs PostgreSQL 14 or newer" in str(refused.value)
    assert f"is PostgreSQL {version}." in str(refused.value)
    assert "secret" not in str(refused.value)


def test_the_service_does_not_start_on_an_older_server(tmp_path: Path) -> None:
    with _an_old_server("13.23") as url:
        home = Home(tmp_path / "home", free_port(), {"DATABASE_URL": url})
        told = _assert_refused(home, "Candour needs PostgreSQL 14 or newer; the server at 127.0.0.1:")
    assert "is PostgreSQL 13.23." in told


@contextmanager
def _an_old_server(version: str) -> Iterator[str]:
    """What a server of that version says to a login, and nothing more: nothing else may be asked of it."""

    class Login(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            length, code = struct.unpack("!ii", self.rfile.read(8))
            if code == _SSL_REQUEST:
                self.wfile.write(b"N")
                length, code = struct.unpack("!ii", self.rfile.read(8))
            self.rfile.read(length - 8)
            told = b"server_version\0" + version.encode() + b"\0"
            self.wfile.write(
                _message(b"R", struct.pack("!i", 0)) + _message(b"S", told) + _message(b"Z", b"I")
            )
            asked.append(self.rfile.read(1))

    asked: list[bytes] = []
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Login) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"postgresql://keeper:secret@127.0.0.1:{server.server_address[1]}/records"
        server.shutdown()
    assert set(asked) <= {b"", b"X"}, "it was left at once"


_SSL_REQUEST = 80877103


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body
