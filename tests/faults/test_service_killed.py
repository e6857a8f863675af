"""kill -9 at any instant: what was acknowledged is there, the log is whole, the next start needs no hand."""

import os
import random
import sys
import threading
import time
from dataclasses import dataclass, field
from uuid import uuid4

import httpx
import pytest

from app.audit.verify import verify
from app.db import Database
from tests.processes import Home, Running, System, a_home
from tests.world import a_patient, an_observation

RX1 = System("rx1", "RX1")
FHIR = {"Content-Type": "application/fhir+json"}


@dataclass(slots=True)
class Ward:
    """Writes and reads over HTTP without pause, and keeps what was acknowledged."""

    base: str
    bearer: dict[str, str]
    written: list[str] = field(default_factory=list)
    read: list[str] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def open(self) -> None:
        self._threads = [threading.Thread(target=work) for work in (self._write, self._read) * 3]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)

    def wait_for(self, written: int) -> None:
        deadline = time.monotonic() + 30
        enough = len(self.written) + written
        while len(self.written) < enough:
            assert time.monotonic() < deadline, f"{len(self.written)} written, refused {self.refused[-3:]}"
            time.sleep(0.005)

    def _write(self) -> None:
        with httpx.Client(base_url=self.base, headers=self.bearer) as http:
            while not self._stop.is_set():
                try:
                    made = http.post("/Observation", content=an_observation("p1"), headers=FHIR)
                except httpx.TransportError:
                    return
                if made.status_code == 201:
                    self.written.append(made.headers["location"].partition("/fhir/")[2])
                else:
                    self.refused.append(made.status_code)

    def _read(self) -> None:
        with httpx.Client(base_url=self.base, headers=self.bearer) as http:
            while not self._stop.is_set():
                asked = f"read-{uuid4()}"
                try:
                    answer = http.get("/Patient/p1", headers={"X-Request-Id": asked})
                except httpx.TransportError:
                    return
                if answer.status_code == 200:
                    self.read.append(asked)
                else:
                    self.refused.append(answer.status_code)


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return a_home(tmp_path_factory, "killed", embedded=True, CANDOUR_CUSTODIANS="RX1")


def _with_a_patient(home: Home) -> dict[str, str]:
    home.register(RX1.registration())
    bearer = RX1.bearer(home)
    made = httpx.put(f"{home.base}/Patient/p1", json=a_patient("p1"), headers={**bearer, **FHIR})
    assert made.status_code == 201, made.text
    return bearer


def _assert_kept(home: Home, written: list[str], read: list[str]) -> None:
    """Every acknowledged write is a version in the store, every acknowledged read an entry of a whole log."""

    async def look(database: Database) -> set[str]:
        async with database.connection() as connection:
            verdict = await verify(connection)
            assert verdict.holds, verdict
            kept = await connection.fetch("SELECT id FROM resource WHERE resource_type = 'Observation'")
        return {row["id"] for row in kept}

    kept = home.as_owner(look)
    assert {one.split("/")[1] for one in written} <= kept
    recorded = {
        word
        for event in home.events()
        for entity in event["entity"]
        for word in (entity["what"].get("reference"), entity["what"].get("identifier", {}).get("value"))
    }
    assert set(written) <= recorded
    assert set(read) <= recorded


def test_nothing_acknowledged_is_lost_when_it_is_killed(home: Home) -> None:
    dice = random.Random(7)
    written: list[str] = []
    read: list[str] = []
    for with_postgres in (False, True, False):
        with home.serving() as service:
            bearer = RX1.bearer(home) if written else _with_a_patient(home)
            ward = Ward(home.base, bearer)
            ward.open()
            ward.wait_for(dice.randrange(20, 120))
            _kill(home, service, with_postgres=with_postgres)
            ward.close()
        assert ward.read
        written += ward.written
        read += ward.read
    with home.serving():
        _assert_kept(home, written, read)
        last = httpx.get(f"{home.base}/{written[-1]}", headers=RX1.bearer(home))
        verified = home.candour("verify")
    assert last.status_code == 200
    assert verified.returncode == 0, verified.stderr
    assert "The audit log is whole" in verified.stdout


def _kill(home: Home, service: Running, *, with_postgres: bool) -> None:
    service.process.kill()
    service.leaves_postgres = True
    postmaster = home.postmaster()
    assert postmaster is not None
    if with_postgres:
        postmaster.kill()


def test_a_killed_postgres_is_a_503_and_then_comes_back(home: Home) -> None:
    # As in a container, where the dead server stays a zombie until the service itself has waited for it.
    with home.serving(as_first_process=sys.platform == "linux") as service:
        bearer = _with_a_patient(home)
        with httpx.Client(base_url=home.base, headers=bearer, timeout=30) as http:
            made = http.post("/Observation", content=an_observation("p1", value="6.30"), headers=FHIR)
            address = made.headers["location"].partition("/_history")[0]
            assert "6.30" in http.get(address).text
            killed = home.postmaster()
            assert killed is not None
            killed.kill()
            refused = [_until(http, address, 503) for _ in range(3)]
            back = _until(http, address, 200)
            written = http.post("/Observation", content=an_observation("p1"), headers=FHIR)
        for answer in refused:
            assert answer.json()["resourceType"] == "OperationOutcome"
            assert answer.headers["retry-after"].isdigit()
            assert "6.30" not in answer.text and "postgres" not in answer.text.lower()
        assert "6.30" in back.text
        assert written.status_code == 201
        assert httpx.get(f"{home.root}/readyz").status_code == 200
        assert home.postmaster() not in (None, killed)
        assert "Traceback" not in service.told
    assert home.candour("verify").returncode == 0


def _until(http: httpx.Client, address: str, status: int) -> httpx.Response:
    """Asks until it is answered so; any other answer on the way is 200 or 503."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        answer = http.get(address)
        assert answer.status_code in (200, 503), answer.text
        if answer.status_code == status:
            return answer
        time.sleep(0.02)
    raise AssertionError(f"never answered {status}")


def test_a_first_start_that_was_killed_is_made_good_by_the_next(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    prepared = a_home(tmp_path_factory, "first", embedded=True)
    home = Home(prepared.path.parent / "fresh", prepared.port)
    dice = random.Random(11)
    for _ in range(2):
        with home.running("migrate") as migrating:
            migrating.wait_for(lambda: any(home.path.glob("postgres*/base")))
            time.sleep(dice.uniform(0, 0.4))
            migrating.kill()
            migrating.leaves_postgres = True
    finished = home.candour("migrate")
    assert finished.returncode == 0, finished.stderr
    assert "timezone = 'UTC'" in (home.path / "postgres" / "postgresql.conf").read_text()
    assert list(home.path.glob("*.unfinished")) == []
    assert home.postmaster() is None


def test_a_process_id_that_is_another_processs_now_does_not_pass_for_the_server(home: Home) -> None:
    """As after a power cut: the file of the old server names a process id, and that is somebody else's by now."""
    directory = (home.path / "postgres").resolve()
    lines = [str(os.getpid()), str(directory), "1700000000", "5432", str(directory), "", "5432001 1", "ready"]
    (directory / "postmaster.pid").write_text("\n".join(lines) + "\n")
    finished = home.candour("migrate")
    assert finished.returncode == 0, finished.stderr
    assert home.postmaster() is None
