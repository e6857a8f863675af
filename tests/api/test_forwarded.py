"""Behind a proxy: links lead where the caller came from; what is kept, decided and proved knows one base."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio

from app.db import APPLICATION_ROLE, Database
from tests.servers import Server
from tests.world import World, a_consent, a_patient, a_world, an_observation, denied_to

Who = dict[str, str]
HEADERS = {
    "X-Forwarded-For": "192.0.2.7",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "care.example",
    "X-Forwarded-Prefix": "/north",
}
THERE = "https://care.example/north/fhir"


@pytest_asyncio.fixture(loop_scope="session")
async def behind(
    postgres: Server, database_name: str, owner: Database, tmp_path: Path
) -> AsyncIterator[World]:
    """A node that trusts its proxy on the same machine."""
    url = postgres.url(user=APPLICATION_ROLE, database=database_name)
    async with a_world(url, owner, tmp_path, trusted_proxies="127.0.0.0/8, ::1") as made:
        await made.client("rx1", "RX1")
        await made.client("rx2", "RX2")
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def ours(behind: World) -> Who:
    return {**await behind.bearer("rx1"), **HEADERS}


def urls(bundle: dict[str, Any]) -> list[str]:
    found = [one["url"] for one in bundle.get("link", ())]
    found += [one["fullUrl"] for one in bundle.get("entry", ()) if "fullUrl" in one]
    return found + [
        one["response"]["location"] for one in bundle["entry"] if "location" in one.get("response", {})
    ]


async def test_a_write_tells_its_location_where_the_caller_came_from(behind: World, ours: Who) -> None:
    made = await behind.post("Patient", a_patient("x"), ours)
    assert re.fullmatch(THERE + r"/Patient/[0-9a-f-]{36}/_history/1", made.headers["location"])


async def test_every_link_of_a_search_a_history_and_a_page_leads_there(behind: World, ours: Who) -> None:
    await behind.patient(ours, "p1")
    for _ in range(3):
        await behind.post("Observation", an_observation("p1"), ours)
    pages = [
        await behind.get("Observation?patient=p1&_count=1", ours),
        await behind.get("Observation?_count=1", ours),
        await behind.get("Patient/p1/_history", ours),
        await behind.get("Patient/p1/$everything?_count=2", ours),
        await behind.get("AuditEvent?patient=p1&_count=2", ours),
    ]
    for page in pages:
        found = page.json()
        assert urls(found) and all(one.startswith(THERE + "/") for one in urls(found)), found
        nexts = [one["url"] for one in found["link"] if one["relation"] == "next"]
        for url in nexts:
            # As the proxy passes it on: without its prefix.
            more = await behind.http.get(url.removeprefix("https://care.example/north"), headers=ours)
            assert all(one.startswith(THERE + "/") for one in urls(more.json()))
    assert sum("next" in page.text for page in pages) == 4


async def test_bundles_of_writes_tell_their_locations_there_and_ones_read_inside_a_batch(
    behind: World, ours: Who
) -> None:
    for kind in ("transaction", "batch"):
        entry = {"resource": a_patient("p1"), "request": {"method": "PUT", "url": "Patient/p1"}}
        done = await behind.post("", {"resourceType": "Bundle", "type": kind, "entry": [entry]}, ours)
        assert urls(done.json())[0].startswith(f"{THERE}/Patient/p1/_history/")
    entry = {"request": {"method": "GET", "url": "Patient?_id=p1"}}
    done = await behind.post("", {"resourceType": "Bundle", "type": "batch", "entry": [entry]}, ours)
    assert all(one.startswith(THERE + "/") for one in urls(done.json()["entry"][0]["resource"]))


async def test_a_custodians_text_is_not_touched_even_if_it_is_a_bundle(behind: World, ours: Who) -> None:
    own = f"{behind.base}/Patient/p1"
    bundle = {
        "resourceType": "Bundle",
        "id": "b1",
        "type": "collection",
        "link": [{"relation": "self", "url": own}],
        "entry": [{"fullUrl": own, "resource": a_patient("p1", text=None)}],
    }
    del bundle["entry"][0]["resource"]["text"]  # type: ignore[index]
    made = await behind.put("Bundle/b1", bundle, ours)
    assert made.status_code == 201, made.text
    for path in ("Bundle/b1", "Bundle/b1/_history/1"):
        read = await behind.get(path, ours)
        assert set(urls(read.json())) == {own}
    entry = {"request": {"method": "GET", "url": "Bundle/b1"}}
    batch = await behind.post("", {"resourceType": "Bundle", "type": "batch", "entry": [entry]}, ours)
    assert set(urls(batch.json()["entry"][0]["resource"])) == {own}
    found = await behind.get("Bundle?_id=b1", ours)
    assert set(urls(found.json()["entry"][0]["resource"])) == {own}


async def test_a_forged_host_changes_nothing_that_is_kept_or_decided(behind: World, ours: Who) -> None:
    """Whose reference it is, is told by the configured base, and by no header."""
    await behind.patient(ours, "p1")
    forged = {**ours, "X-Forwarded-Host": "evil.example", "Host": "evil.example"}
    forged_base = "https://evil.example/north/fhir"
    foreign = an_observation("p1", subject={"reference": f"{forged_base}/Patient/p1"})
    assert (await behind.post("Observation", foreign, forged)).status_code == 422
    own = an_observation("p1", subject={"reference": f"{behind.base}/Patient/p1"})
    made = await behind.post("Observation", own, forged)
    assert made.status_code == 201 and "evil" not in made.text
    await behind.put("Consent/c", {**a_consent("p1", **denied_to("RX2")), "id": "c"}, ours)
    theirs = {**await behind.bearer("rx2"), **HEADERS, "X-Forwarded-Host": "evil.example"}
    hidden = await behind.get(f"Observation/{made.json()['id']}", theirs)
    assert hidden.status_code == 404
    for named in (f"{behind.base}/Patient/p1", "Patient/p1"):
        assert (await behind.get(f"Observation?subject={named}&_summary=count", forged)).json()["total"] == 1
        assert (await behind.get(f"Observation?subject={named}&_summary=count", theirs)).json()["total"] == 0


async def test_a_later_page_leads_where_its_own_request_came_from(behind: World, ours: Who) -> None:
    await behind.patient(ours, "p1")
    for _ in range(2):
        await behind.post("Observation", an_observation("p1"), ours)
    first = await behind.get("Observation?patient=p1&_count=1", {**ours, "X-Forwarded-Host": "evil.example"})
    url = next(one["url"] for one in first.json()["link"] if one["relation"] == "next")
    more = await behind.http.get(url.removeprefix("https://evil.example/north"), headers=ours)
    assert more.status_code == 200 and "evil" not in more.text
    assert all(one.startswith(THERE + "/") for one in urls(more.json()))


async def test_the_audit_entry_names_the_caller_and_not_the_proxy(behind: World, ours: Who) -> None:
    await behind.patient(ours, "p1")
    await behind.get("Patient/p1", {**ours, "X-Forwarded-For": "203.0.113.99, 192.0.2.8"})
    told = json.dumps((await behind.audit())[-1])
    assert "192.0.2.8" in told and "203.0.113.99" not in told and '127.0.0.1"' not in told


async def test_what_is_proved_by_address_stays(behind: World, ours: Who) -> None:
    """Issuer, audience and token endpoint are compared by clients and by other nodes: no header changes them."""
    for path in ("/fhir/metadata", "/fhir/.well-known/smart-configuration"):
        plain, told = await behind.http.get(path), await behind.http.get(path, headers=HEADERS)
        assert plain.content == told.content


async def test_nobody_is_believed_where_no_proxy_is_trusted(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    for headers in (
        HEADERS,
        {"Forwarded": "for=192.0.2.7;host=evil.example;proto=https"},
        {"Host": "evil.example"},
    ):
        found = await world.http.get("/fhir/Patient?_id=p1", headers={**rx1, **headers})
        assert all(one.startswith(world.base + "/") for one in urls(found.json()))
        assert "192.0.2.7" not in json.dumps((await world.audit())[-1])


async def test_the_addresses_of_an_export_lead_there(behind: World, ours: Who) -> None:
    await behind.patient(ours, "p1")
    asked = "Patient/$export?_type=Patient"
    begun = await behind.get(asked, ours, Prefer="respond-async")
    status = begun.headers["content-location"]
    assert status.startswith(f"{THERE}/_export/")
    path = status.removeprefix(f"{THERE}/")
    for _ in range(200):
        manifest = await behind.get(path, ours)
        if manifest.status_code != 202:
            break
        await asyncio.sleep(0.05)
    assert manifest.json()["request"] == f"{THERE}/{asked}"
    assert [one["url"].startswith(f"{status}/") for one in manifest.json()["output"]] == [True]
