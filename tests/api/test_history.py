"""Histories and conditional reads, asked as R4 lets one ask (R4 http, 3.1.0.1.4 and 3.1.0.10)."""

import asyncio
from typing import Any

import pytest

from tests.world import World, an_observation

Who = dict[str, str]


async def versions(world: World, who: Who, count: int = 4) -> list[str]:
    """Writes ``count`` versions of Observation/o, apart in time; gives their instants."""
    await world.patient(who, "p1")
    instants = []
    for number in range(count):
        answer = await world.put("Observation/o", an_observation("p1", value=str(70 + number), id="o"), who)
        instants.append(answer.json()["meta"]["lastUpdated"])
        await asyncio.sleep(0.005)
    return instants


def told(bundle: Any) -> list[str]:
    return [entry["response"]["etag"] for entry in bundle.get("entry", [])]


async def test_a_history_is_told_since_an_instant_and_at_one(world: World, rx1: Who) -> None:
    first, second, third, fourth = await versions(world, rx1)
    for query, etags in {
        f"_since={third}": ['W/"4"', 'W/"3"'],
        "_since=2001": ['W/"4"', 'W/"3"', 'W/"2"', 'W/"1"'],
        "_since=2101": [],
        f"_at={second}": ['W/"2"'],
        "_at=2001": [],
    }.items():
        answer = await world.get(f"Observation/o/_history?{query}", rx1)
        assert answer.status_code == 200, answer.text
        assert (told(answer.json()), answer.json()["total"]) == (etags, len(etags)), query
    assert first < fourth


async def test_a_history_is_paged_without_a_gap_while_others_write(world: World, rx1: Who) -> None:
    await versions(world, rx1, 5)
    page = (await world.get("Observation/o/_history?_count=2", rx1)).json()
    assert told(page) == ['W/"5"', 'W/"4"']
    await world.put("Observation/o", an_observation("p1", value="99", id="o"), rx1)
    rest = []
    while following := [link["url"] for link in page["link"] if link["relation"] == "next"]:
        page = (await world.get(following[0].split("/fhir/")[1], rx1)).json()
        rest += told(page)
    assert rest == ['W/"3"', 'W/"2"', 'W/"1"']


async def test_a_page_of_a_history_is_its_callers_alone(world: World, rx1: Who, rx2: Who) -> None:
    await versions(world, rx1, 3)
    page = (await world.get("Observation/o/_history?_count=1", rx1)).json()
    [following] = [link["url"] for link in page["link"] if link["relation"] == "next"]
    assert (await world.get(following.split("/fhir/")[1], rx2)).status_code in (400, 403, 404)


@pytest.mark.parametrize(
    "query", ["_since=yesterday", "_at=2026-13-01", "_count=x", "_count=0", "_sort=x", "_at=2026&_at=2027"]
)
async def test_what_a_history_cannot_be_asked_is_refused(query: str, world: World, rx1: Who) -> None:
    await versions(world, rx1, 1)
    assert (await world.get(f"Observation/o/_history?{query}", rx1)).status_code == 400


async def test_a_record_is_not_sent_again_unless_it_changed(world: World, rx1: Who) -> None:
    await versions(world, rx1, 1)
    read = await world.get("Observation/o", rx1)
    etag, modified = read.headers["etag"], read.headers["last-modified"]
    for headers, status in (
        ({"If_None_Match": etag}, 304),
        ({"If_None_Match": 'W/"9"'}, 200),
        ({"If_Modified_Since": modified}, 304),
        ({"If_Modified_Since": "Tue, 01 Jan 2019 00:00:00 GMT"}, 200),
        ({"If_Modified_Since": "not a date"}, 200),
        ({"If_None_Match": 'W/"9"', "If_Modified_Since": modified}, 200),
    ):
        before = len(await world.audit())
        answer = await world.get("Observation/o", rx1, **headers)
        assert answer.status_code == status, headers
        assert (answer.text == "") is (status == 304)
        assert len(await world.audit()) == before + 1, "not sending it again is an access too"


async def test_head_says_what_get_would_and_sends_nothing(world: World, rx1: Who) -> None:
    await versions(world, rx1, 1)
    read = await world.get("Observation/o", rx1)
    head = await world.http.head("/fhir/Observation/o", headers=rx1)
    assert (head.status_code, head.content) == (200, b"")
    assert [head.headers[name] for name in ("etag", "last-modified")] == [
        read.headers[name] for name in ("etag", "last-modified")
    ]
