"""What a search gives back: totals, parts and counts, of what the caller may see (R4 search, 3.1.1.7 to 3.1.1.10)."""

import json
from typing import Any

import pytest

from tests.api.test_search_values import a_value, an_observation, keep
from tests.world import World

Who = dict[str, str]
HIDDEN = {
    "meta": {
        "security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "V"}]
    }
}


async def asked(world: World, who: Who, query: str) -> Any:
    answer = await world.get(f"Observation?{query}", who, Prefer="handling=strict")
    assert answer.status_code == 200, answer.text
    return answer.json()


def matches(bundle: Any) -> list[Any]:
    return [one["resource"] for one in bundle.get("entry", []) if one["search"]["mode"] == "match"]


@pytest.mark.parametrize("scope", ["patient=p1&", ""])
async def test_totals_are_given_as_asked(scope: str, world: World, rx1: Who) -> None:
    await keep(world, rx1, [an_observation(f"o{number}") for number in range(7)])
    assert (await asked(world, rx1, f"{scope}_total=accurate&_count=3"))["total"] == 7
    assert (await asked(world, rx1, f"{scope}_total=estimate&_count=3"))["total"] == 7
    assert "total" not in await asked(world, rx1, f"{scope}_total=none&_count=100")
    for counted in ("_summary=count", "_count=0"):
        bundle = await asked(world, rx1, f"{scope}{counted}")
        assert (bundle["total"], matches(bundle)) == (7, [])


@pytest.mark.parametrize("scope", ["patient=p1&", ""])
async def test_a_total_stays_on_later_pages(scope: str, world: World, rx1: Who) -> None:
    await keep(world, rx1, [an_observation(f"o{number}") for number in range(5)])
    page, found = await asked(world, rx1, f"{scope}_total=accurate&_count=2"), []
    while True:
        assert page["total"] == 5
        found += [one["id"] for one in matches(page)]
        following = [link["url"] for link in page["link"] if link["relation"] == "next"]
        if not following:
            break
        page = (await world.get(following[0].split("/fhir/")[1], rx1)).json()
    assert sorted(found) == [f"o{number}" for number in range(5)]


@pytest.mark.parametrize("scope", ["patient=p1&", ""])
@pytest.mark.parametrize("counted", ["_summary=count", "_total=accurate&_count=1", "_count=0", "_count=50"])
async def test_what_is_withheld_is_not_counted(
    scope: str, counted: str, world: World, rx1: Who, rx2: Who
) -> None:
    await keep(world, rx1, [an_observation("a"), an_observation("b")])
    before = (await asked(world, rx2, scope + counted))["total"]
    await keep(world, rx1, [an_observation("h1", **HIDDEN), an_observation("h2", **HIDDEN)])
    assert (await asked(world, rx2, scope + counted))["total"] == before == 2


async def test_a_part_is_marked_and_follows_onto_later_pages(world: World, rx1: Who) -> None:
    await keep(
        world, rx1, [an_observation(f"o{n}", **a_value("1.50"), note=[{"text": "n"}]) for n in range(3)]
    )
    page = await asked(world, rx1, "patient=p1&_elements=valueQuantity,value&_count=2")
    [following] = [link["url"] for link in page["link"] if link["relation"] == "next"]
    second = (await world.get(following.split("/fhir/")[1], rx1)).json()
    for one in matches(page) + matches(second):
        assert "note" not in one and one["valueQuantity"] == {"value": 1.5}
        assert "SUBSETTED" in json.dumps(one["meta"]["tag"])
    assert len(matches(page) + matches(second)) == 3


async def test_a_read_gives_a_part_too(world: World, rx1: Who) -> None:
    await keep(world, rx1, [an_observation("o", **a_value("1.50"), note=[{"text": "n"}])])
    part = await world.get("Observation/o?_elements=note", rx1)
    assert "valueQuantity" not in part.json() and part.json()["note"] == [{"text": "n"}]
    assert (await world.get("Observation/o?_summary=count", rx1)).status_code == 400
    assert (await world.get("Observation/o?_summary=some", rx1)).status_code == 400
