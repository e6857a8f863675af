"""An export outlives the process that makes it: killed or ended, the next one goes on, over real sockets."""

import json
import signal
import time
from typing import Any

import httpx
import pytest

from app.db import Database
from tests.processes import Home, System, a_home
from tests.world import a_patient, an_observation

RX1 = System("rx1", "RX1")
FHIR = {"Content-Type": "application/fhir+json"}
ASYNC = {"Prefer": "respond-async"}
OBSERVATIONS = 1_200


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return a_home(tmp_path_factory, "export", CANDOUR_CUSTODIANS="RX1")


def _with_records(home: Home, **more: Any) -> None:
    """More than one slice of the making, and of a download."""
    home.register(RX1.registration())
    entries = [
        {"resource": one, "request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}}
        for one in (
            a_patient("p1"),
            *(json.loads(an_observation("p1", id=f"o{number:04}", **more)) for number in range(OBSERVATIONS)),
        )
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    made = httpx.post(home.base, json=bundle, headers={**RX1.bearer(home), **FHIR}, timeout=60)
    assert made.status_code == 200, made.text


def _begun(home: Home) -> str:
    asked = httpx.get(
        f"{home.base}/Patient/$export?_type=Patient,Observation", headers={**RX1.bearer(home), **ASYNC}
    )
    assert asked.status_code == 202, asked.text
    return asked.headers["content-location"]


def _downloaded(home: Home, address: str) -> dict[str, set[str]]:
    bearer = RX1.bearer(home)
    deadline = time.monotonic() + 30
    while (status := httpx.get(address, headers=bearer)).status_code == 202:
        assert time.monotonic() < deadline, "it was never complete"
        time.sleep(0.1)
    assert status.status_code == 200, status.text
    found: dict[str, set[str]] = {}
    for file in status.json()["output"]:
        # httpx asks for gzip and reads it.
        text = httpx.get(file["url"], headers=bearer, timeout=30).text
        lines = [json.loads(one)["id"] for one in text.splitlines()]
        assert len(lines) == len(set(lines))
        found.setdefault(file["type"], set()).update(lines)
    return found


async def _lease_ends(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute("UPDATE export_job SET lease_until = now()")


def test_an_export_goes_on_after_the_service_was_killed_or_ended(home: Home) -> None:
    expected = {"Patient": {"p1"}, "Observation": {f"o{number:04}" for number in range(OBSERVATIONS)}}
    with home.serving() as service:
        _with_records(home)
        address = _begun(home)
        service.kill()
    with home.serving() as service:
        home.as_owner(_lease_ends)  # the process that held it is gone; it would take half a minute by itself
        assert _downloaded(home, address) == expected
        address = _begun(home)
        assert service.end(signal.SIGTERM) == 0
        assert "Traceback" not in service.told
    with home.serving() as service:
        assert _downloaded(home, address) == expected, "it was left to whoever comes next"
        assert httpx.delete(address, headers=RX1.bearer(home)).status_code == 202
    assert home.candour("verify").returncode == 0


def test_a_download_breaks_off_when_nothing_more_can_be_recorded(home: Home) -> None:
    """What has left was recorded; the rest does not leave, and the file does not look whole."""
    with home.serving():
        _with_records(home, note=[{"text": "x" * 20_000}])  # more than the sockets between them would hold
        address = _begun(home)
        bearer = RX1.bearer(home)
        _downloaded(home, address)
        files = httpx.get(address, headers=bearer).json()["output"]
        url = next(one["url"] for one in files if one["type"] == "Observation")
        entries = len(home.events())
        left = bytearray()
        with pytest.raises(httpx.RemoteProtocolError):
            _read(home, url, bearer, left)
        lines = [json.loads(one)["id"] for one in left.decode().splitlines(keepends=True) if one[-1] == "\n"]
        assert 0 < len(lines) < OBSERVATIONS
        recorded = {
            entity["what"].get("reference") for event in home.events()[entries:] for entity in event["entity"]
        }
        assert {f"Observation/{one}/_history/1" for one in lines} <= recorded
        assert httpx.get(url, headers=bearer, timeout=30).status_code == 503


def _read(home: Home, url: str, bearer: dict[str, str], left: bytearray) -> None:
    """Takes entries away from the log after the first bytes have come, and reads on."""
    asked = {**bearer, "Accept-Encoding": "identity"}
    with httpx.stream("GET", url, headers=asked, timeout=30) as answer:
        assert answer.status_code == 200
        for piece in answer.iter_raw():
            if not left:
                home.as_owner(_no_more_entries)
            left += piece


async def _no_more_entries(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute("REVOKE INSERT ON audit_body FROM candour_app")
