"""``:above`` and ``:below`` of references go along Location.partOf and Organization.partOf (R4 search, 3.1.1.4.5)."""

import json
from typing import Any

import pytest

from tests.world import World

Who = dict[str, str]


def _part(kind: str, id: str, of: str = "") -> dict[str, Any]:
    return {"resourceType": kind, "id": id, "name": id} | (
        {"partOf": {"reference": f"{kind}/{of}"}} if of else {}
    )


def _encounter(id: str, place: str, provider: str = "") -> dict[str, Any]:
    return {
        "resourceType": "Encounter",
        "id": id,
        "status": "finished",
        "class": {"code": "AMB"},
        "subject": {"reference": "Patient/p1"},
        "location": [{"location": {"reference": f"Location/{place}"}}],
        **({"serviceProvider": {"reference": f"Organization/{provider}"}} if provider else {}),
    }


RECORD = [
    _part("Location", "site"),
    _part("Location", "house", "site"),
    _part("Location", "ward", "house"),
    _part("Location", "bed", "ward"),
    _part("Location", "garden", "site"),
    _part("Location", "round", "trip"),
    _part("Location", "trip", "round"),
    _part("Organization", "trust"),
    _part("Organization", "unit", "trust"),
    _encounter("e1", "site", "trust"),
    _encounter("e2", "ward", "unit"),
    _encounter("e3", "bed"),
    _encounter("e4", "garden"),
    _encounter("e5", "trip"),
]


async def record(world: World, who: Who) -> None:
    await world.patient(who, "p1")
    entries = [
        {"resource": one, "request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}}
        for one in RECORD
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    answer = await world.post("", json.dumps(bundle), who)
    assert answer.status_code == 200, answer.text


async def ids(world: World, who: Who, question: str) -> str:
    answer = await world.get(question, who, Prefer="handling=strict")
    assert answer.status_code == 200, f"{question}: {answer.text}"
    found = answer.json().get("entry", [])
    return " ".join(sorted(one["resource"]["id"] for one in found if one["search"]["mode"] == "match"))


async def test_a_place_is_found_with_what_is_part_of_it_or_what_it_is_a_part_of(
    world: World, rx1: Who
) -> None:
    await record(world, rx1)
    for asked, expected in {
        "Encounter?location=house": "",
        "Encounter?location:below=house": "e2 e3",
        "Encounter?location:below=Location/site": "e1 e2 e3 e4",
        "Encounter?location:below=http://localhost:8080/fhir/Location/ward": "e2 e3",
        "Encounter?location:below=bed": "e3",
        "Encounter?location:below=bed,garden": "e3 e4",
        "Encounter?location:below=nowhere": "",
        "Encounter?location:above=bed": "e1 e2 e3",
        "Encounter?location:above=house": "e1",
        "Encounter?location:below=round": "e5",
        "Encounter?location:above=round": "e5",
        "Encounter?service-provider:below=trust": "e1 e2",
        "Encounter?service-provider:above=unit": "e1 e2",
        "Encounter?service-provider:above=trust": "e1",
        "Encounter?location:below=house&service-provider:below=trust": "e2",
    }.items():
        question = asked.replace("http://localhost:8080/fhir", world.base)
        bound = question.replace("?", "?patient=p1&")
        assert await ids(world, rx1, question) == await ids(world, rx1, bound) == expected, asked
    assert await ids(world, rx1, "Location?partof:below=house") == "bed ward"
    assert await ids(world, rx1, "Patient?_has:Encounter:patient:location:below=house") == "p1"


async def test_a_hierarchy_needs_a_scope_for_its_type(world: World, rx1: Who) -> None:
    await record(world, rx1)
    narrow = await world.bearer("rx1", scope="system/Encounter.rs")
    assert (await world.get("Encounter?patient=p1&location:below=house", narrow)).status_code == 403


@pytest.mark.parametrize(
    "asked",
    [
        "Observation?encounter:below=Encounter/1",
        "Observation?subject:below=Patient/1",
        "Encounter?location:below=Patient/1",
        "Encounter?location:below=http://elsewhere.example/fhir/Location/1",
        "Encounter?location:below=Location/1/_history/2",
    ],
)
async def test_what_is_in_no_hierarchy_is_refused(asked: str, world: World, rx1: Who) -> None:
    answer = await world.get(asked, rx1, Prefer="handling=strict")
    assert answer.status_code == 400, answer.text


async def test_contained_resources_are_found_with_their_container_alone(world: World, rx1: Who) -> None:
    await record(world, rx1)
    assert await ids(world, rx1, "Location?_id=bed&_contained=false") == "bed"
    for asked in ("_contained=true", "_contained=both", "_containedType=contained"):
        answer = await world.get(f"Location?_id=bed&{asked}", rx1, Prefer="handling=strict")
        assert answer.status_code == 400
        assert asked.partition("=")[0] in answer.json()["issue"][0]["details"]["text"]
        lenient = (await world.get(f"Location?_id=bed&{asked}", rx1)).json()
        assert "_contained" not in lenient["link"][0]["url"]
