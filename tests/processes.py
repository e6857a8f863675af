"""Real ``candour`` processes: each home its own, on free loopback ports, bounded in time, ended by their ids."""

import asyncio
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import httpx
import psutil
import pytest

from app.audit.packing import unpack
from app.db import Database
from app.smart.clients import Client, ClientRegister
from app.vocabulary import PurposeOfUse, ods_code
from tests.servers import a_kept_database, given_server
from tests.unit.smart.forgery import forge, pair

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 60
END_SECONDS = 30
Result = TypeVar("Result")
_homes = itertools.count()
EVERYTHING = ("system/*.cruds", "system/Consent.cruds", "system/AuditEvent.rs")


@dataclass(frozen=True, slots=True)
class Home:
    """A node's data directory and the environment its processes run in."""

    path: Path
    port: int
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base(self) -> str:
        return f"{self.root}/fhir"

    @property
    def token_url(self) -> str:
        return f"{self.root}/oauth/token"

    @property
    def node_name(self) -> str:
        return self.settings.get("CANDOUR_NODE_NAME", "candour.localhost")

    @property
    def environment(self) -> dict[str, str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("CANDOUR_", "DATABASE_"))
        }
        own = {"CANDOUR_HOME": str(self.path), "CANDOUR_PORT": str(self.port), "COLUMNS": "200"}
        return {**inherited, **own, **self.settings}

    def candour(self, *words: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """One command, run to its end."""
        return subprocess.run(
            _command(words),
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    @contextmanager
    def running(self, *words: str, as_first_process: bool = False) -> Iterator["Running"]:
        """A command in the background; killed at the end if it is still there, and its PostgreSQL too."""
        told = self.path.parent / f"{self.path.name}-{uuid4().hex[:8]}.stderr"
        with told.open("wb") as stderr:
            process = subprocess.Popen(
                _command(words, as_first_process=as_first_process),
                env=self.environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
            )
        running = Running(process, told)
        try:
            yield running
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(END_SECONDS)
            if not running.leaves_postgres:
                self.end_postgres()

    @contextmanager
    def serving(self, *, as_first_process: bool = False) -> Iterator["Running"]:
        """The service, ready to answer."""
        with self.running("serve", as_first_process=as_first_process) as service:
            self.wait_until_ready(service)
            yield service

    def wait_until_ready(self, service: "Running") -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert service.process.poll() is None, f"the service ended by itself:\n{service.told}"
            with suppress(httpx.TransportError):
                if httpx.get(f"{self.root}/readyz", timeout=2).status_code == 200:
                    return
            time.sleep(0.05)
        raise AssertionError(f"the service did not become ready:\n{service.told}")

    # The embedded PostgreSQL.

    def postmaster(self) -> psutil.Process | None:
        """The process of the home's PostgreSQL, when it runs."""
        with suppress(OSError, ValueError, IndexError, psutil.Error):
            process = psutil.Process(int(self._postmaster_lines()[0]))
            if str(self.path / "postgres") in process.cmdline():
                return process
        return None

    def owner_url(self) -> str:
        given = self.settings.get("DATABASE_OWNER_URL") or self.settings.get("DATABASE_URL")
        return given or f"postgresql://postgres:@/candour?host={self._postmaster_lines()[4]}"

    def end_postgres(self) -> None:
        postmaster = self.postmaster()
        if postmaster is not None:
            postmaster.send_signal(signal.SIGQUIT)  # its immediate shutdown
            with suppress(psutil.TimeoutExpired):
                postmaster.wait(END_SECONDS)

    def _postmaster_lines(self) -> list[str]:
        return (self.path / "postgres" / "postmaster.pid").read_text().splitlines()

    # Administration beside a running service, without the time that a process of its own takes to start.

    def as_owner(self, work: Callable[[Database], Awaitable[Result]]) -> Result:
        """What ``work`` gives, done as the owner of the tables."""

        async def connected() -> Result:
            database = await Database.connect(self.owner_url(), size=1)
            try:
                return await work(database)
            finally:
                await database.close()

        return asyncio.run(connected())

    def register(self, *clients: Client) -> None:
        async def add(database: Database) -> None:
            for client in clients:
                await ClientRegister(database).add(client)

        self.as_owner(add)

    def kept(self) -> int:
        """How many resources the store holds."""

        async def count(database: Database) -> int:
            async with database.connection() as connection:
                return int(await connection.fetchval("SELECT count(*) FROM resource WHERE home"))

        return self.as_owner(count)

    def events(self) -> list[dict[str, Any]]:
        """Every AuditEvent in the log, oldest first."""

        async def fetch(database: Database) -> list[bytes]:
            async with database.connection() as connection:
                rows = await connection.fetch("SELECT body FROM audit_body ORDER BY idx")
            return [unpack(row["body"]) for row in rows]

        return [json.loads(body) for body in self.as_owner(fetch)]


@dataclass(slots=True)
class Running:
    """A process of ours, and the file that holds what it tells."""

    process: subprocess.Popen[bytes]
    _told: Path
    leaves_postgres: bool = False
    """Whether a PostgreSQL that it left running is not to be ended with it."""

    @property
    def told(self) -> str:
        """Standard output and standard error."""
        return self._told.read_text(errors="replace")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(END_SECONDS)

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Asks it to end, and gives its exit code."""
        self.process.send_signal(how)
        return self.process.wait(END_SECONDS)

    def wait_for(self, condition: Callable[[], bool], seconds: float = START_SECONDS) -> None:
        """Until ``condition`` holds, while the process still runs."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, f"it ended by itself:\n{self.told}"
            assert time.monotonic() < deadline, f"it never came to it:\n{self.told}"
            time.sleep(0.01)


def a_home(factory: pytest.TempPathFactory, name: str, *, embedded: bool = False, **settings: str) -> Home:
    """A home of a test's own: an embedded PostgreSQL, migrated; or a database on the given server, if there is one.

    ``embedded``: never the given server, for a test that kills it or looks at its files.
    """
    server = None if embedded else given_server()
    if server is None:
        return _an_embedded_home(factory, name, settings)
    given = {"DATABASE_URL": a_kept_database(server, f"{name}_{next(_homes)}"), **settings}
    return Home(factory.mktemp(name) / "home", free_port(), given)


def _an_embedded_home(factory: pytest.TempPathFactory, name: str, settings: Mapping[str, str]) -> Home:
    """A copy of one that was made once for the whole run."""
    prepared = factory.getbasetemp() / "prepared-home"
    if not prepared.exists():
        made = Home(factory.mktemp("preparing") / "home", free_port())
        finished = made.candour("migrate")
        assert finished.returncode == 0, finished.stderr
        made.path.rename(prepared)
    path = factory.mktemp(name) / "home"
    subprocess.run(["cp", "-a", str(prepared), str(path)], check=True)  # owners are kept, as PostgreSQL wants
    return Home(path, free_port(), settings)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# Callers.


@dataclass(frozen=True, slots=True)
class System:
    """A trust's record system: it holds a private key and gets its tokens over HTTP."""

    client_id: str
    organisation: str
    emergency: bool = True

    def registration(self) -> Client:
        return Client(
            self.client_id,
            f"{self.organisation} record system",
            "system",
            ods_code(self.organisation),
            {"keys": [dict(pair("ES384", self.client_id).jwk)]},
            EVERYTHING,
            tuple(PurposeOfUse),
            f"{self.organisation} Trust",
            emergency=self.emergency,
        )

    def bearer(self, home: Home, **form: str) -> dict[str, str]:
        """A token by private_key_jwt from the node's own token endpoint, as a header."""
        answer = httpx.post(home.token_url, data=self.form(home, **form))
        assert answer.status_code == 200, answer.text
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}

    def form(self, home: Home, **form: str) -> dict[str, str]:
        now = int(time.time())
        claims = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": home.token_url,
            "iat": now,
            "exp": now + 60,
            "jti": uuid4().hex,
        }
        return {
            "grant_type": "client_credentials",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": forge(claims, pair("ES384", self.client_id)),
            "scope": " ".join(EVERYTHING),
            "purpose_of_use": "TREAT",
            **form,
        }


def _command(words: Sequence[str], *, as_first_process: bool = False) -> list[str]:
    if as_first_process:
        return [sys.executable, "-c", _FIRST_PROCESS, sys.executable, "-m", "app", *words]
    return [sys.executable, "-m", "app", *words]


# Linux gives the orphans of a subreaper's descendants to it, as it gives all orphans to a container's first process.
_FIRST_PROCESS = "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1); os.execv(sys.argv[1], sys.argv[1:])"
