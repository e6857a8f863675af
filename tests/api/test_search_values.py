"""What a search by value finds: the tables of R4's search page, asked of a node (R4 search, 3.1.1.4)."""

import json
from typing import Any

import pytest

from tests.world import World

Who = dict[str, str]

UCUM = "http://unitsofmeasure.org"


def a_bundle(resources: list[dict[str, Any]]) -> dict[str, Any]:
    entries = [
        {"resource": one, "request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}}
        for one in resources
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def an_observation(id: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": id,
        "status": "final",
        "code": {"text": "measured"},
        "subject": {"reference": "Patient/p1"},
        **more,
    }


async def keep(world: World, who: Who, resources: list[dict[str, Any]]) -> None:
    await world.patient(who, "p1")
    text = json.dumps(a_bundle(resources)).replace('"@', "").replace('@"', "")
    answer = await world.post("", text, who)
    assert answer.status_code == 200, answer.text


async def found(world: World, who: Who, kind: str, query: str) -> str:
    """The ids found, in their order, as one text; bound to the patient and not, it must be the same."""
    both = []
    for scope in ("subject=Patient/p1&", ""):
        answer = await world.get(f"{kind}?{scope}{query}&_count=100", who, Prefer="handling=strict")
        assert answer.status_code == 200, answer.text
        entries = answer.json().get("entry", [])
        both.append(sorted(one["resource"]["id"] for one in entries if one["search"]["mode"] == "match"))
    assert both[0] == both[1], query
    return " ".join(both[0])


def a_value(number: str, code: str | None = None, **more: Any) -> dict[str, Any]:
    """The number goes in as written: ``@`` marks it, so that no float touches it."""
    unit = {"system": UCUM, "code": code, "unit": code} if code else {}
    return {"valueQuantity": {"value": f"@{number}@", **unit, **more}}


AMOUNTS = {"a": "99", "b": "99.5", "c": "99.99", "d": "100", "e": "100.4", "f": "100.5", "g": "101"}


async def test_numbers_are_found_by_their_precision_and_prefix(world: World, rx1: Who) -> None:
    await keep(world, rx1, [an_observation(id, **a_value(number)) for id, number in AMOUNTS.items()])
    for asked, ids in {
        "100": "b c d e",
        "eq100": "b c d e",
        "100.00": "d",
        "1e2": "a b c d e f g",
        "gt100": "e f g",
        "lt100": "a b c",
        "ge100": "d e f g",
        "le100": "a b c d",
        "ne100": "a f g",
        "sa100": "e f g",
        "eb100": "a b c",
        "ap100": "a b c d e f g",
        "99,101": "a f g",
        "7": "",
    }.items():
        assert await found(world, rx1, "Observation", f"value-quantity={asked}") == ids, asked


async def test_quantities_are_compared_in_units_that_can_be_converted(world: World, rx1: Who) -> None:
    await keep(
        world,
        rx1,
        [
            an_observation("mg", **a_value("5.4", "mg")),
            an_observation("g", **a_value("0.0054", "g")),
            an_observation("ml", **a_value("5.4", "mL")),
            an_observation("bare", **a_value("5.4")),
            an_observation("words", **a_value("5.4", unit="mg")),
            an_observation("less", **a_value("5", "mg", comparator="<")),
        ],
    )
    for asked, ids in {
        "5.4": "bare mg ml words",
        f"5.4|{UCUM}|mg": "g mg",
        f"0.0054|{UCUM}|g": "g mg",
        "5.4||mg": "mg words",
        f"5.4|{UCUM}|": "mg ml",
        f"gt1|{UCUM}|g": "",
        f"lt5|{UCUM}|mg": "less",
        f"lt1|{UCUM}|kg": "g less mg",
        f"5.4|{UCUM}|L": "",
    }.items():
        assert await found(world, rx1, "Observation", f"value-quantity={asked}") == ids, asked


async def test_a_token_is_found_by_each_of_its_forms(world: World, rx1: Who) -> None:
    def concept(*codings: dict[str, str], **more: Any) -> dict[str, Any]:
        return {"valueCodeableConcept": {**({"coding": list(codings)} if codings else {}), **more}}

    await keep(
        world,
        rx1,
        [
            an_observation("1", **concept({"system": "urn:s1", "code": "c1", "display": "First one"})),
            an_observation("2", **concept({"system": "urn:s2", "code": "c2"})),
            an_observation("3", **concept(text="Nur Text")),
            an_observation("4", **concept({"system": "urn:s1", "code": "c2"})),
            an_observation("5", **concept({"code": "c3"})),
            an_observation("6", **concept({"system": "urn:s3", "code": "c3"})),
            an_observation("7"),
        ],
    )
    for asked, ids in {
        "value-concept=c2": "2 4",
        "value-concept=urn:s2|c2": "2",
        "value-concept=|c3": "5",
        "value-concept=urn:s3|": "6",
        "value-concept:not=urn:s1|c1": "2 3 4 5 6 7",
        "value-concept:not=c2,c3": "1 3 7",
        "value-concept:missing=true": "7",
        "value-concept:missing=false": "1 2 3 4 5 6",
        "value-concept:text=first": "1",
        "value-concept:text=nur": "3",
        "value-concept:text=one": "",
        "value-concept:missing=false&value-concept:not=c2": "1 3 5 6",
    }.items():
        assert await found(world, rx1, "Observation", asked) == ids, asked


async def test_what_was_deleted_is_missing_from_negations_too(world: World, rx1: Who) -> None:
    await keep(world, rx1, [an_observation("1"), an_observation("2")])
    assert (await world.delete("Observation/2", rx1)).status_code == 204
    for asked in ("value-concept:not=x", "value-concept:missing=true"):
        assert await found(world, rx1, "Observation", asked) == "1", asked


async def test_an_identifier_is_found_by_type_and_value(world: World, rx1: Who) -> None:
    kind = {
        "coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR"}],
        "text": "Record",
    }
    await keep(
        world,
        rx1,
        [
            an_observation("typed", identifier=[{"type": kind, "system": "urn:x", "value": "446053"}]),
            an_observation("plain", identifier=[{"system": "urn:x", "value": "446053"}]),
        ],
    )
    v2 = "http://terminology.hl7.org/CodeSystem/v2-0203"
    for asked, ids in {
        "identifier=446053": "plain typed",
        f"identifier:of-type={v2}|MR|446053": "typed",
        f"identifier:of-type={v2}|MR|446054": "",
        f"identifier:of-type={v2}|MC|446053": "",
        "identifier:text=record": "typed",
    }.items():
        assert await found(world, rx1, "Observation", asked) == ids, asked


async def test_a_uri_is_found_above_and_below(world: World, rx1: Who) -> None:
    profiles = {
        "a": "http://x.example/fhir",
        "b": "http://x.example/fhir/P/1",
        "c": "http://x.example/fhirs/P",
    }
    await keep(world, rx1, [an_observation(id, meta={"profile": [url]}) for id, url in profiles.items()])
    for asked, ids in {
        "_profile=http://x.example/fhir": "a",
        "_profile:below=http://x.example/fhir": "a b",
        "_profile:below=http://x.example/fhir/": "a b",
        "_profile:below=http://x.example": "a b c",
        "_profile:above=http://x.example/fhir/P/1/x": "a b",
        "_profile:above=http://x.example/fhir": "a",
    }.items():
        assert await found(world, rx1, "Observation", asked) == ids, asked


def a_pressure(id: str, systolic: int, diastolic: int) -> dict[str, Any]:
    def component(code: str, value: int) -> dict[str, Any]:
        return {
            "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
            "valueQuantity": {"value": value, "system": UCUM, "code": "mm[Hg]", "unit": "mmHg"},
        }

    return an_observation(id, component=[component("8480-6", systolic), component("8462-4", diastolic)])


async def test_a_composite_joins_what_stands_in_one_element(world: World, rx1: Who) -> None:
    heart = {"code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}}
    await keep(
        world,
        rx1,
        [
            a_pressure("high", 160, 70),
            a_pressure("both", 150, 95),
            a_pressure("low", 110, 60),
            an_observation("pulse", **heart, **a_value("155", "/min")),
        ],
    )
    systolic, diastolic = "http://loinc.org|8480-6", "8462-4"
    for asked, ids in {
        f"component-code-value-quantity={systolic}$gt140": "both high",
        # 160 is a systolic value and 8462-4 is a component of each, but not of the same one.
        f"component-code-value-quantity={diastolic}$gt140": "",
        f"component-code-value-quantity={diastolic}$gt90": "both",
        f"component-code-value-quantity={systolic}$gt140|{UCUM}|mm[Hg]": "both high",
        f"component-code-value-quantity={systolic}$lt120,{diastolic}$gt90": "both low",
        "code-value-quantity=8867-4$gt150": "pulse",
        "code-value-quantity=8480-6$gt150": "",
        "combo-code-value-quantity=8867-4$gt150,8480-6$gt155": "high pulse",
        "combo-code-value-quantity=8867-4$lt150": "",
    }.items():
        assert await found(world, rx1, "Observation", asked.replace("[", "%5B").replace("]", "%5D")) == ids, (
            asked
        )


async def test_numbers_of_a_risk_are_found(world: World, rx1: Who) -> None:
    risks = [
        {
            "resourceType": "RiskAssessment",
            "id": id,
            "status": "final",
            "subject": {"reference": "Patient/p1"},
            "prediction": [{"probabilityDecimal": value}],
        }
        for id, value in {"a": 0.1, "b": 0.55, "c": 0.9}.items()
    ]
    await keep(world, rx1, risks)
    for asked, ids in {"gt0.5": "b c", "0.6": "b", "0.5": "", "0.55": "b", "lt0.2": "a"}.items():
        assert await found(world, rx1, "RiskAssessment", f"probability={asked}") == ids, asked


@pytest.mark.parametrize("query", ["value-quantity=gt5", "value-quantity:missing=true", "code:not=x"])
async def test_what_is_withheld_is_not_found_by_value_either(
    query: str, world: World, rx1: Who, rx2: Who
) -> None:
    """Hidden from the other trust: the same answer as if it had never been written."""
    hidden = {
        "meta": {
            "security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "V"}]
        }
    }
    await keep(world, rx1, [an_observation("open", **a_value("7", "mg"))])
    before = (await world.get(f"Observation?subject=Patient/p1&{query}", rx2)).json()
    await keep(
        world,
        rx1,
        [an_observation("hidden", **a_value("8", "mg"), **hidden), an_observation("none", **hidden)],
    )
    after = (await world.get(f"Observation?subject=Patient/p1&{query}", rx2)).json()
    for answer in (before, after):
        answer["entry"] = [one for one in answer["entry"] if one["search"]["mode"] == "match"]
    assert after == before


async def test_an_update_and_a_deletion_take_the_values_along(world: World, rx1: Who) -> None:
    await keep(world, rx1, [an_observation("o", **a_value("5", "mg")), a_pressure("bp", 160, 90)])
    await keep(world, rx1, [an_observation("o", **a_value("6", "mg")), a_pressure("bp", 120, 80)])
    assert await found(world, rx1, "Observation", "value-quantity=5") == ""
    assert await found(world, rx1, "Observation", "value-quantity=6") == "o"
    assert await found(world, rx1, "Observation", "component-code-value-quantity=8480-6$160") == ""
    assert (await world.delete("Observation/bp", rx1)).status_code == 204
    assert await found(world, rx1, "Observation", "component-code-value-quantity=8480-6$120") == ""
