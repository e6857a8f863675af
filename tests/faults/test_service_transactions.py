"""kill -9 in the middle of a transaction: nothing of it is kept or recorded, and the same transaction works again."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
import pytest

from app.audit.verify import verify
from app.db import Database
from tests.bundles import a_bundle, entry
from tests.processes import Home, System, a_home
from tests.world import a_patient, an_observation

RX1 = System("rx1", "RX1")
FHIR = {"Content-Type": "application/fhir+json"}
SIZE = 1_500


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return a_home(tmp_path_factory, "transactions", embedded=True, CANDOUR_CUSTODIANS="RX1")


def _large() -> str:
    """Creations, changes, a deletion and readings."""
    changed = entry("PUT", "Observation/there", an_observation("p1", id="there", value="2"))
    return a_bundle(
        changed,
        entry("DELETE", "Observation/gone"),
        *(entry("PUT", f"Observation/n{n}", an_observation("p1", id=f"n{n}")) for n in range(SIZE)),
        entry("GET", "Patient/p1"),
    )


@contextmanager
def _sending(home: Home, bearer: dict[str, str]) -> Iterator[list[int]]:
    """The transaction, under way in a thread of its own; the status of its answer, should one come."""
    answers: list[int] = []

    def send() -> None:
        with suppress(httpx.TransportError):
            answer = httpx.post(home.base, content=_large(), headers={**bearer, **FHIR}, timeout=60)
            answers.append(answer.status_code)

    thread = threading.Thread(target=send)
    thread.start()
    yield answers
    thread.join(60)


def _wait_until_it_writes(home: Home, more_than: int) -> None:
    deadline = time.monotonic() + 30
    while _size(home) <= more_than:
        assert time.monotonic() < deadline, "the transaction never wrote"
        time.sleep(0.005)


def _size(home: Home) -> int:
    """Of a table that grows by what is written, whether or not anybody can see it yet."""

    async def size(database: Database) -> int:
        async with database.connection() as connection:
            return int(await connection.fetchval("SELECT pg_relation_size('resource_home')"))

    return home.as_owner(size)


def _log_holds(home: Home) -> None:
    async def check(database: Database) -> bool:
        async with database.connection() as connection:
            return bool((await verify(connection)).holds)

    assert home.as_owner(check)


@pytest.mark.parametrize("with_postgres", [False, True])
def test_nothing_of_a_transaction_is_kept_when_it_is_killed_in_the_middle(
    home: Home, with_postgres: bool
) -> None:
    with home.serving() as service:
        home.register(RX1.registration())
        bearer = RX1.bearer(home)
        for id, body in (
            ("Patient/p1", json.dumps(a_patient("p1"))),
            ("Observation/there", an_observation("p1", id="there")),
            ("Observation/gone", an_observation("p1", id="gone")),
        ):
            made = httpx.put(f"{home.base}/{id}", content=body, headers={**bearer, **FHIR})
            assert made.status_code == 201, made.text
        kept, told = home.kept(), len(home.events())
        with _sending(home, bearer) as answers:
            _wait_until_it_writes(home, _size(home) + 3 * 8192)
            service.process.kill()
            service.leaves_postgres = True
            if with_postgres and (postmaster := home.postmaster()) is not None:
                postmaster.kill()
        assert answers == []
    with home.serving():
        assert (home.kept(), len(home.events())) == (kept, told)
        _log_holds(home)
        bearer = RX1.bearer(home)
        there = httpx.get(f"{home.base}/Observation/there", headers=bearer)
        assert there.headers["etag"] == 'W/"1"'
        assert httpx.get(f"{home.base}/Observation/gone", headers=bearer).status_code == 200
        again = httpx.post(home.base, content=_large(), headers={**bearer, **FHIR}, timeout=60)
        assert again.status_code == 200, again.text[:500]
        assert home.kept() == kept + SIZE
        _log_holds(home)
