"""``_sort`` by any parameter, and pages that are one snapshot while others write (R4 search, 3.1.1.5.2)."""

from typing import Any

import pytest

from tests.api.test_chains import keep
from tests.world import DAVID, World, a_consent, denied_to

Who = dict[str, str]


def _observation(id: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": id,
        "status": "final",
        "code": {"text": "measured"},
        "subject": {"reference": "Patient/p1"},
        **more,
    }


def _coded(code: str) -> dict[str, Any]:
    return {"code": {"coding": [{"system": "http://loinc.org", "code": code}]}}


def _amount(value: float, unit: str) -> dict[str, Any]:
    quantity = {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit}
    return {"valueQuantity": quantity}


RECORD = [
    _observation("a", **_coded("300"), effectiveDateTime="2026-03-02", **_amount(2, "g")),
    _observation("b", **_coded("100"), effectiveDateTime="2026-03-01", **_amount(300, "mg")),
    _observation("c", **_coded("200"), effectivePeriod={"start": "2026-02-01", "end": "2026-05-01"}),
    _observation("d", **_coded("100"), **_amount(1, "kg")),
    _observation("e", effectiveDateTime="2026-03-01", encounter={"reference": "Encounter/e1"}),
]


async def pages(world: World, who: Who, path: str) -> list[list[str]]:
    """The ids of the matches, page by page."""
    found, following = [], path
    while following:
        answer = await world.get(following, who, Prefer="handling=strict")
        assert answer.status_code == 200, answer.text
        bundle = answer.json()
        entries = bundle.get("entry", [])
        found.append([one["resource"]["id"] for one in entries if one["search"]["mode"] == "match"])
        links = [one["url"] for one in bundle["link"] if one["relation"] == "next"]
        following = links[0].split("/fhir/")[1] if links else ""
    return found


@pytest.mark.parametrize("scope", ["patient=p1&", ""])
async def test_any_parameter_sorts_and_what_has_no_value_comes_last(
    world: World, rx1: Who, scope: str
) -> None:
    await world.patient(rx1, "p1")
    await keep(world, rx1, RECORD)
    for keys, expected in {
        "code": "b d c a e",
        "-code": "a c b d e",
        "value-quantity": "b a d c e",
        "-value-quantity": "d a b c e",
        "date": "c b e a d",
        "-date": "a b e c d",
        "code,date": "b d c a e",
        "code,-value-quantity": "d b c a e",
        "encounter": "e a b c d",
        "-encounter,_id": "e a b c d",
        "status,-_id": "e d c b a",
        "_id": "a b c d e",
        "-_id": "e d c b a",
        "-date,-code": "a b e c d",
    }.items():
        for count in (100, 2):
            found = await pages(world, rx1, f"Observation?{scope}_sort={keys}&_count={count}")
            assert " ".join(id for page in found for id in page) == expected, (keys, count)
            assert [len(page) for page in found] == ([5] if count == 100 else [2, 2, 1])


async def test_names_sort_as_people_expect(world: World, rx1: Who) -> None:
    names = {
        "n1": ("Zoë", "ånn"),
        "n2": ("adams", "Bo"),
        "n3": ("Adams", "Al"),
        "n4": ("Lúk", "C"),
        "n5": None,
    }
    people = [
        {
            "resourceType": "Practitioner",
            "id": id,
            **({"name": [{"family": it[0], "given": [it[1]]}]} if it else {}),
        }
        for id, it in names.items()
    ]
    await keep(world, rx1, people)
    assert await pages(world, rx1, "Practitioner?_sort=family,given") == [["n3", "n2", "n4", "n1", "n5"]]
    assert await pages(world, rx1, "Practitioner?_sort=-family,given") == [["n1", "n4", "n2", "n3", "n5"]]


async def test_the_self_link_names_the_sort_that_was_used(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    lenient = (await world.get("Observation?patient=p1&_sort=nope", rx1)).json()
    assert "_sort" not in lenient["link"][0]["url"]
    used = (await world.get("Observation?patient=p1&_sort=code,-date", rx1)).json()
    assert "_sort=code,-date" in used["link"][0]["url"]


@pytest.mark.parametrize("scope", ["patient=p1&", ""])
@pytest.mark.parametrize("sort", ["", "_sort=date&", "_sort=-code,date&", "_sort=_id&"])
async def test_pages_are_one_snapshot_while_others_write(
    world: World, rx1: Who, scope: str, sort: str
) -> None:
    await world.patient(rx1, "p1")
    await keep(world, rx1, [_observation(f"o{n:02d}", **_coded(str(n % 3))) for n in range(12)])
    seen: list[str] = []
    following = f"Observation?{scope}{sort}_count=3"
    number = 0
    while following:
        bundle = (await world.get(following, rx1)).json()
        seen += [one["resource"]["id"] for one in bundle["entry"] if one["search"]["mode"] == "match"]
        links = [one["url"] for one in bundle["link"] if one["relation"] == "next"]
        following = links[0].split("/fhir/")[1] if links else ""
        # What was shown is changed, what was not is changed, and new ones come, which may sort anywhere.
        await keep(
            world,
            rx1,
            [
                _observation(seen[0], **_coded("9"), effectiveDateTime="2026-03-01"),
                _observation("o07", **_coded("8"), note=[{"text": str(number)}]),
                _observation(f"new{number}", **_coded("0")),
                _observation(f"a-new{number}", effectiveDateTime="2020-01-01"),
            ],
        )
        number += 1
    assert sorted(seen) == [f"o{n:02d}" for n in range(12)]
    assert number == 4


async def test_a_later_page_shows_the_version_that_was_found(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    await keep(world, rx1, [_observation(id, **_coded("1")) for id in ("a", "b")])
    first = (await world.get("Observation?patient=p1&code=1&_count=1&_sort=_id", rx1)).json()
    following = first["link"][1]["url"].split("/fhir/")[1]
    await keep(world, rx1, [_observation("b", **_coded("2"))])
    [second, _] = (await world.get(following, rx1)).json()["entry"]
    assert second["resource"]["code"]["coding"][0]["code"] == "1"
    assert second["resource"]["meta"]["versionId"] == "1"


async def test_what_was_deleted_or_withdrawn_since_is_on_no_later_page(
    world: World, rx1: Who, rx2: Who
) -> None:
    await world.patient(rx1, "p1")
    await world.patient(rx1, "p2", DAVID, birthDate="1950-01-01")
    await keep(world, rx1, [_observation(id) for id in "abcd"])
    await keep(world, rx1, [{**_observation("z"), "subject": {"reference": "Patient/p2"}}])
    first = (await world.get("Observation?_count=1&_sort=_id", rx2)).json()
    following = first["link"][1]["url"].split("/fhir/")[1]
    assert (await world.delete("Observation/b", rx1)).status_code in (200, 204)
    assert await pages(world, rx2, following) == [["c"], ["d"], ["z"]]
    await world.post("Consent", a_consent("p1", **denied_to("RX2")), rx1)
    assert await pages(world, rx2, following) == [["z"]]


async def test_a_version_that_became_hidden_is_on_no_later_page(world: World, rx1: Who, rx2: Who) -> None:
    await world.patient(rx1, "p1")
    hidden = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "PSY"}
    deny = {"type": "deny", "securityLabel": [hidden]}
    await world.post("Consent", a_consent("p1", type="permit", provision=[deny]), rx1)
    await keep(world, rx1, [_observation(id) for id in "abc"])
    first = (await world.get("Observation?patient=p1&_count=1&_sort=_id", rx2)).json()
    following = first["link"][1]["url"].split("/fhir/")[1]
    await keep(world, rx1, [_observation("b", meta={"security": [hidden]})])
    assert await pages(world, rx2, following) == [["c"]]


async def test_a_page_of_everybody_is_filled_past_what_is_withheld(world: World, rx1: Who, rx2: Who) -> None:
    await world.patient(rx1, "p1")
    await world.patient(rx1, "p2", DAVID, birthDate="1950-01-01")
    mine = [_observation(f"m{n:03d}", **_coded("1")) for n in range(230)]
    theirs = [
        {**_observation(f"t{n:03d}", **_coded("1")), "subject": {"reference": "Patient/p2"}} for n in range(4)
    ]
    await keep(world, rx1, [*mine, *theirs])
    await world.post("Consent", a_consent("p1", **denied_to("RX2")), rx1)
    assert await pages(world, rx2, "Observation?code=1&_count=3&_sort=_id") == [
        ["t000", "t001", "t002"],
        ["t003"],
    ]


async def test_an_answer_longer_than_what_is_kept_goes_on_after_it(world: World, rx1: Who) -> None:
    await keep(world, rx1, [{"resourceType": "Practitioner", "id": "d"}])
    async with world.owner.connection() as connection:
        for table, named in (("resource_home", "id"), ("resource", "id, content")):
            others = await connection.fetch(
                "SELECT column_name FROM information_schema.columns WHERE table_name = $1", table
            )
            kept = ", ".join(one[0] for one in others if one[0] not in ("id", "content"))
            made = ", ".join(
                {"id": "d.id || '.' || n", "content": "replace(content, '\"d\"', '\"d.' || n || '\"')"}[one]
                for one in named.split(", ")
            )
            await connection.execute(
                f"INSERT INTO {table} ({named}, {kept}) SELECT {made}, {kept} "
                f"FROM {table} AS d, generate_series(1, 10300) AS n WHERE d.id = 'd'"
            )
    for sort in ("_sort=_id&", ""):
        found = await pages(world, rx1, f"Practitioner?{sort}_count=1000")
        assert [len(page) for page in found] == [1000] * 10 + [301]
        assert len({id for page in found for id in page}) == 10_301


@pytest.mark.parametrize(
    "question", ["Observation?patient=p1&_sort=_id&", "Patient/p1/Observation?_sort=_id,status&"]
)
async def test_a_patient_who_was_found_to_be_somebody_else_is_on_no_later_page(
    world: World, rx1: Who, rx2: Who, question: str
) -> None:
    await world.patient(rx1, "p1")
    await world.patient(rx2, "p2")
    await keep(world, rx1, [_observation("a")])
    theirs = {"subject": {"reference": "Patient/p2"}}
    await keep(world, rx2, [{**_observation(id), **theirs} for id in ("b", "c")])
    first = (await world.get(f"{question}_count=1", rx1)).json()
    assert first["total"] == 3
    following = first["link"][1]["url"].split("/fhir/")[1]
    assert await pages(world, rx1, following) == [["b"], ["c"]]
    await world.patient(rx2, "p2", DAVID, birthDate="1950-01-01")
    await world.post("Consent", a_consent("p2", **denied_to("RX1")), rx2)
    assert await pages(world, rx1, following) == [[]]
