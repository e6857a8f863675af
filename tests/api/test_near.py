"""``near`` finds exactly the Locations within the distance, by brute force over every one (R4 Location, near)."""

import json
import random
from typing import Any
from urllib.parse import quote

import pytest

from app.db import Database
from app.fhir.positions import metres_between
from tests.world import World

Who = dict[str, str]
Place = tuple[float, float]


def _location(id: str, place: Place, **more: Any) -> dict[str, Any]:
    position = {"latitude": place[0], "longitude": place[1]}
    return {"resourceType": "Location", "id": id, "name": id, "position": position, **more}


def _places(drawn: random.Random) -> dict[str, Place]:
    """All over the Earth, and many about a town, the poles and the antimeridian."""
    centres: list[Place] = [(53.8, -1.55), (89.95, 10), (-89.95, 100), (-17, 179.95), (65, -179.99), (0, 0)]
    found: dict[str, Place] = {}
    for at in range(240):
        if at % 4 == 0:
            latitude, longitude = drawn.uniform(-90, 90), drawn.uniform(-180, 180)
        else:
            middle = centres[at % len(centres)]
            latitude = middle[0] + drawn.gauss(0, 0.2)
            longitude = middle[1] + drawn.gauss(0, 0.5)
        latitude = max(-90.0, min(90.0, latitude))
        found[f"l{at}"] = (round(latitude, 5), round((longitude + 540) % 360 - 180, 5))
    return found | {
        "north": (90, 0),
        "south": (-90, 45),
        "east": (12, 180),
        "west": (12, -180),
        "zero": (0, 0),
    }


async def keep(world: World, who: Who, resources: list[dict[str, Any]]) -> None:
    entries = [
        {"resource": one, "request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}}
        for one in resources
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    answer = await world.post("", json.dumps(bundle), who)
    assert answer.status_code == 200, answer.text


async def ids(world: World, who: Who, question: str) -> set[str]:
    answer = await world.get(f"{question}&_count=1000", who, Prefer="handling=strict")
    assert answer.status_code == 200, f"{question}: {answer.text}"
    found = answer.json().get("entry", [])
    return {one["resource"]["id"] for one in found if one["search"]["mode"] == "match"}


async def test_near_finds_what_brute_force_finds(world: World, rx1: Who) -> None:
    drawn = random.Random(7)
    places = _places(drawn)
    await keep(world, rx1, [_location(id, place) for id, place in places.items()])
    centres = [*drawn.sample(list(places.values()), 24), (90.0, 0.0), (-90.0, 0.0), (12.0, 180.0), (0.0, 0.0)]
    sizes = set[int]()
    for latitude, longitude in centres:
        for kilometres in (0, 1, 10, 50, 400, 5_000, 12_000, 20_100):
            expected = {
                id
                for id, place in places.items()
                if metres_between(latitude, longitude, *place) <= kilometres * 1_000 + 0.01
            }
            asked = f"{latitude}|{longitude}|{kilometres}|km"
            assert await ids(world, rx1, f"Location?near={asked}") == expected, asked
            sizes.add(len(expected))
    assert len(sizes) > 20


async def test_near_is_like_any_other_parameter(world: World, rx1: Who) -> None:
    leeds, york = (53.7997, -1.5492), (53.96, -1.0873)
    await keep(
        world,
        rx1,
        [
            _location("leeds", leeds, status="active"),
            _location("york", york),
            {"resourceType": "Location", "id": "nowhere", "name": "x"},
            _location("beyond", (91, 0)),
        ],
    )
    for question, expected in {
        "near=53.8|-1.55|5|km": "leeds",
        "near=53.8|-1.55|25|[mi_i]": "leeds york",
        "near=53.8|-1.55": "leeds york",
        "near=53.8|-1.55|1|km,53.96|-1.09|1000|m": "leeds york",
        "near=53.8|-1.55|100|km&near=53.96|-1.09|1000|m": "york",
        "near=53.8|-1.55|100|km&status=active": "leeds",
        "near=53.8|-1.55|30000|km": "leeds york",
        "near:missing=true": "nowhere",
        "near:missing=false": "beyond leeds york",
        f"_filter={quote('near eq 53.8|-1.55|5|km or name eq x')}": "leeds nowhere",
        f"_filter={quote('near pr true and not(near eq 53.8|-1.55|5|km)')}": "beyond york",
    }.items():
        asked = f"Location?{question.replace('[', '%5B').replace(']', '%5D')}"
        assert " ".join(sorted(await ids(world, rx1, asked))) == expected, question
    await world.patient(rx1, "p1")
    encounter = {
        "resourceType": "Encounter",
        "id": "e1",
        "status": "finished",
        "class": {"code": "AMB"},
        "subject": {"reference": "Patient/p1"},
        "location": [{"location": {"reference": "Location/york"}}],
    }
    await keep(world, rx1, [encounter])
    for scope in ("", "patient=p1&"):
        assert await ids(world, rx1, f"Encounter?{scope}location.near=53.96|-1.09|5|km") == {"e1"}
        assert await ids(world, rx1, f"Encounter?{scope}location.near=53.8|-1.55|5|km") == set()


async def test_a_place_moves_and_goes_with_its_location(world: World, rx1: Who, owner: Database) -> None:
    await keep(world, rx1, [_location("here", (10, 10))])
    await keep(world, rx1, [_location("here", (20, 20))])
    assert await ids(world, rx1, "Location?near=10|10|5|km") == set()
    assert await ids(world, rx1, "Location?near=20|20|5|km") == {"here"}
    assert (await world.delete("Location/here", rx1)).status_code == 204
    assert await ids(world, rx1, "Location?near=20|20|5|km") == set()
    assert await owner.pool.fetchval("SELECT count(*) FROM index_position") == 0


async def test_places_are_found_by_an_index(world: World, rx1: Who, owner: Database) -> None:
    await owner.pool.execute("""
        INSERT INTO index_position
        SELECT 0, 'Location', 'l' || at, 'near', random() * 180 - 90, random() * 360 - 180
        FROM generate_series(1, 20000) AS at
    """)
    await owner.pool.execute("ANALYZE index_position")
    plan = await owner.pool.fetch("""
        EXPLAIN SELECT 1 FROM index_position
        WHERE point(longitude, latitude) <@ box(point(1, 1), point(2, 2))
           OR point(longitude, latitude) <@ box(point(3, 3), point(4, 4))
    """)
    assert "index_position_place" in "\n".join(row[0] for row in plan)


@pytest.mark.parametrize("asked", ["x", "91|0|1|km", "0|0|1|kg", "0|0|1|km|2", "0|0|-1|km"])
async def test_a_place_that_cannot_be_is_refused(asked: str, world: World, rx1: Who) -> None:
    answer = await world.get(f"Location?near={asked}", rx1)
    assert answer.status_code == 400
    assert "near: written latitude|longitude|distance|unit" in answer.json()["issue"][0]["details"]["text"]
