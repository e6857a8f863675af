"""Conditional create, update, patch and deletion: one resource, whoever else writes at the time (R4 http, 3.1.0.7)."""

import asyncio
import json
from typing import Any

import pytest

from tests.world import World, an_observation

Who = dict[str, str]
FHIR = {"Content-Type": "application/fhir+json"}


def identified(value: str, **more: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(
        an_observation("p1", identifier=[{"system": "urn:lab", "value": value}])
    )
    return {**body, **more}


async def ids(world: World, who: Who, value: str) -> list[str]:
    bundle = (await world.get(f"Observation?identifier=urn:lab|{value}", who)).json()
    return [one["resource"]["id"] for one in bundle.get("entry", []) if one["search"]["mode"] == "match"]


async def test_many_at_once_create_one(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    spellings = ["identifier=urn:lab|1", "identifier=urn%3Alab%7C1"]
    answers = await asyncio.gather(
        *(
            world.post("Observation", identified("1"), rx1, If_None_Exist=spellings[number % 2])
            for number in range(32)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [200] * 31 + [201]
    assert len(await ids(world, rx1, "1")) == 1


async def test_many_at_once_update_one(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    answers = await asyncio.gather(
        *(world.put("Observation?identifier=urn:lab|1", identified("1"), rx1) for _ in range(16))
    )
    assert sorted(answer.status_code for answer in answers) == [200] * 15 + [201]
    assert len(await ids(world, rx1, "1")) == 1


async def test_an_update_creates_updates_or_is_refused_by_what_matches(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    where = "Observation?identifier=urn:lab|1"
    made = await world.put(where, identified("1", id="mine"), rx1)
    assert (made.status_code, made.json()["id"]) == (201, "mine")
    changed = await world.put(where, identified("1", status="amended"), rx1)
    assert (changed.status_code, changed.json()["id"], changed.headers["etag"]) == (200, "mine", 'W/"2"')
    assert (await world.put(where, identified("1", id="other"), rx1)).status_code == 400
    assert (
        await world.put("Observation?identifier=urn:lab|9", identified("9", id="mine"), rx1)
    ).status_code == 409
    stale = await world.put(where, identified("1"), rx1, If_Match='W/"1"')
    assert stale.status_code == 412
    await world.post("Observation", identified("1"), rx1)
    assert (await world.put(where, identified("1"), rx1)).status_code == 412


async def test_a_deletion_takes_the_one_and_never_several(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    where = "Observation?identifier=urn:lab|1"
    assert (await world.delete(where, rx1)).status_code == 204
    for _ in range(2):
        await world.post("Observation", identified("1"), rx1)
    assert (await world.delete(where, rx1)).status_code == 412
    first, _ = await ids(world, rx1, "1")
    await world.delete(f"Observation/{first}", rx1)
    assert (await world.delete(where, rx1)).status_code == 204
    assert await ids(world, rx1, "1") == []


async def test_a_patch_changes_the_one_that_matches(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    change = json.dumps([{"op": "replace", "path": "/status", "value": "amended"}])
    where = "/fhir/Observation?identifier=urn:lab|1"
    headers = {**rx1, "Content-Type": "application/json-patch+json"}
    assert (await world.http.patch(where, content=change, headers=headers)).status_code == 404
    await world.post("Observation", identified("1"), rx1)
    assert (await world.http.patch(where, content=change, headers=headers)).json()["status"] == "amended"
    await world.post("Observation", identified("1"), rx1)
    assert (await world.http.patch(where, content=change, headers=headers)).status_code == 412


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
@pytest.mark.parametrize(
    "criteria", ["", "?", "?_count=5", "?nonsense=1", "?identifier=", "?identifer=urn:lab|1"]
)
async def test_criteria_that_might_mean_anything_are_refused(
    method: str, criteria: str, world: World, rx1: Who
) -> None:
    await world.patient(rx1, "p1")
    await world.post("Observation", identified("1"), rx1)
    body = json.dumps(identified("1")) if method == "PUT" else None
    answer = await world.http.request(
        method, f"/fhir/Observation{criteria}", content=body, headers={**rx1, **FHIR}
    )
    assert answer.status_code == 400, answer.text
    assert len(await ids(world, rx1, "1")) == 1


async def test_another_custodians_records_are_never_meant(world: World, rx1: Who, rx2: Who) -> None:
    """Neither changed nor told of: to RX2 it is as if RX1's record were not there."""
    await world.patient(rx1, "p1")
    await world.patient(rx2, "p2")
    await world.post("Observation", identified("1"), rx1)
    [theirs] = await ids(world, rx1, "1")
    own = {**identified("1"), "subject": {"reference": "Patient/p2"}}
    made = await world.put("Observation?identifier=urn:lab|1", own, rx2)
    assert made.status_code == 201 and made.json()["id"] != theirs
    assert (await world.delete("Observation?identifier=urn:lab|1", rx2)).status_code == 204
    assert (await world.get(f"Observation/{theirs}", rx1)).status_code == 200


def a_transaction(*requests: tuple[str, str, Any]) -> dict[str, Any]:
    entries = [
        {"request": {"method": method, "url": url}, **({"resource": body} if body else {})}
        for method, url, body in requests
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


@pytest.mark.parametrize("kind", ["transaction", "batch"])
async def test_bundles_hold_conditional_updates_and_deletions(kind: str, world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    await world.post("Observation", identified("old"), rx1)
    bundle = a_transaction(
        ("PUT", "Observation?identifier=urn:lab|new", identified("new")),
        ("DELETE", "Observation?identifier=urn:lab|old", None),
        ("DELETE", "Observation?identifier=urn:lab|none", None),
    )
    answer = await world.post("", {**bundle, "type": kind}, rx1)
    assert answer.status_code == 200, answer.text
    statuses = [entry["response"]["status"][:3] for entry in answer.json()["entry"]]
    assert statuses == ["201", "204", "204"]
    assert (await ids(world, rx1, "old"), len(await ids(world, rx1, "new"))) == ([], 1)


async def test_two_entries_that_mean_the_same_resource_are_refused_whole(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    made = await world.post("Observation", identified("1"), rx1)
    for requests in (
        [("PUT", "Observation?identifier=urn:lab|2", identified("2"))] * 2,
        [
            ("PUT", "Observation?identifier=urn:lab|1", identified("1")),
            ("PUT", f"Observation/{made.json()['id']}", identified("1", id=made.json()["id"])),
        ],
    ):
        answer = await world.post("", a_transaction(*requests), rx1)
        assert answer.status_code == 400, answer.text
    assert await ids(world, rx1, "2") == []


async def test_a_body_that_says_another_id_than_its_address_is_refused(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    answer = await world.post("", a_transaction(("PUT", "Observation/a", identified("1", id="b"))), rx1)
    assert answer.status_code in (400, 422), answer.text
    assert (await world.get("Observation/a", rx1)).status_code == 404
