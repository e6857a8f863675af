"""The terminology operations over HTTP, and the search modifiers that stand on them."""

import json
from typing import Any

import pytest

from tests.api.test_search_values import an_observation, found, keep
from tests.world import World

Who = dict[str, str]
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
STATUS = "http://hl7.org/fhir/ValueSet/observation-status"
INTERPRETATION = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"


def value_of(parameters: Any, name: str) -> Any:
    [one] = [part for part in parameters["parameter"] if part["name"] == name]
    return next(value for key, value in one.items() if key.startswith("value"))


async def test_a_value_set_is_expanded_by_get_and_post(world: World, rx1: Who) -> None:
    by_get = await world.get(f"ValueSet/$expand?url={STATUS}", rx1)
    assert by_get.status_code == 200, by_get.text
    codes = [one["code"] for one in by_get.json()["expansion"]["contains"]]
    assert "final" in codes and by_get.json()["expansion"]["total"] == len(codes)
    asked = {
        "resourceType": "Parameters",
        "parameter": [{"name": "url", "valueUri": STATUS}, {"name": "count", "valueInteger": 2}],
    }
    by_post = await world.post("ValueSet/$expand", asked, rx1)
    assert [one["code"] for one in by_post.json()["expansion"]["contains"]] == codes[:2]


async def test_a_code_is_validated_looked_up_and_compared(world: World, rx1: Who) -> None:
    for code, holds in (("final", True), ("finished", False)):
        answer = await world.get(
            f"ValueSet/$validate-code?url={STATUS}&system=http://hl7.org/fhir/observation-status&code={code}",
            rx1,
        )
        assert value_of(answer.json(), "result") is holds
    looked_up = await world.get(f"CodeSystem/$lookup?system={ACT_CODE}&code=ETH", rx1)
    assert value_of(looked_up.json(), "display")
    in_system = await world.get(f"CodeSystem/$validate-code?url={ACT_CODE}&code=ETH", rx1)
    assert value_of(in_system.json(), "result") is True
    compared = await world.get(f"CodeSystem/$subsumes?system={INTERPRETATION}&codeA=H&codeB=HH", rx1)
    assert value_of(compared.json(), "outcome") == "subsumes"


async def test_a_value_set_kept_here_is_expanded_as_it_is_read(world: World, rx1: Who) -> None:
    kept = {
        "resourceType": "ValueSet",
        "status": "active",
        "url": "http://trust.example/ValueSet/mine",
        "compose": {"include": [{"system": "urn:x", "concept": [{"code": "a"}, {"code": "b"}]}]},
    }
    made = await world.post("ValueSet", kept, rx1)
    before = len(await world.audit())
    answer = await world.get(f"ValueSet/{made.json()['id']}/$expand", rx1)
    [event] = (await world.audit())[before:]
    assert f"ValueSet/{made.json()['id']}/_history/1" in json.dumps(event), "the one entry says what was read"
    assert [one["code"] for one in answer.json()["expansion"]["contains"]] == ["a", "b"]
    assert (await world.get("ValueSet/nobody/$expand", rx1)).status_code == 404


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("ValueSet/$expand", 400),
        ("ValueSet/$expand?url=http://example.org/none", 404),
        ("ValueSet/$expand?url=http://hl7.org/fhir/ValueSet/observation-codes", 422),
        ("ValueSet/$expand?nonsense=1", 400),
        ("CodeSystem/$lookup?system=http://loinc.org&code=1", 404),
        (f"CodeSystem/$lookup?system={ACT_CODE}&code=none", 404),
    ],
)
async def test_what_cannot_be_answered_is_refused_in_a_sentence(
    path: str, status: int, world: World, rx1: Who
) -> None:
    before = len(await world.audit())
    answer = await world.get(path, rx1)
    assert answer.status_code == status, answer.text
    assert answer.json()["issue"][0]["details"]["text"]
    assert [event["outcome"] for event in (await world.audit())[before:]] == ["4"]


async def test_an_operation_needs_a_token_and_leaves_an_entry(world: World, rx1: Who) -> None:
    assert (await world.http.get(f"/fhir/ValueSet/$expand?url={STATUS}")).status_code == 401
    narrow = await world.bearer("rx1", scope="system/Patient.rs")
    assert (await world.get(f"ValueSet/$expand?url={STATUS}", narrow)).status_code == 403
    before = len(await world.audit())
    await world.get(f"ValueSet/$expand?url={STATUS}", rx1)
    [event] = (await world.audit())[before:]
    assert event["outcome"] == "0" and "Patient/" not in json.dumps(event)


async def test_the_terminology_on_board_is_told(world: World) -> None:
    answer = await world.http.get("/fhir/metadata?mode=terminology")
    assert answer.json()["resourceType"] == "TerminologyCapabilities"
    assert ACT_CODE in answer.text


async def test_a_search_asks_for_members_and_kinds(world: World, rx1: Who) -> None:
    tagged = {
        "a": (INTERPRETATION, "H"),
        "b": (INTERPRETATION, "HH"),
        "c": (INTERPRETATION, "N"),
        "d": ("urn:x", "H"),
    }
    await keep(
        world,
        rx1,
        [
            an_observation("e"),
            *(
                an_observation(id, meta={"tag": [{"system": system, "code": code}]})
                for id, (system, code) in tagged.items()
            ),
        ],
    )
    members = "http://hl7.org/fhir/ValueSet/observation-interpretation"
    for asked, ids in {
        f"_tag:below={INTERPRETATION}|H": "a b",
        f"_tag:above={INTERPRETATION}|HH": "a b",
        f"_tag:in={members}": "a b c",
        f"_tag:not-in={members}": "d e",
    }.items():
        assert await found(world, rx1, "Observation", asked) == ids, asked
