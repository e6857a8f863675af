"""$validate against R4 and against the profiles that are kept here (R4 resource-operation-validate)."""

import json
import lzma
from pathlib import Path
from typing import Any

import pytest

from tests.world import World, a_patient

Who = dict[str, str]
PROFILE = "http://trust.example/StructureDefinition/named-patient"


def a_profile(url: str = PROFILE, **more: Any) -> dict[str, Any]:
    """Patients who must have a birth date and exactly one name."""
    return {
        "resourceType": "StructureDefinition",
        "url": url,
        "name": "NamedPatient",
        "status": "active",
        "kind": "resource",
        "abstract": False,
        "type": "Patient",
        "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Patient",
        "derivation": "constraint",
        "differential": {
            "element": [
                {"id": "Patient", "path": "Patient"},
                {"id": "Patient.name", "path": "Patient.name", "max": "1"},
                {"id": "Patient.birthDate", "path": "Patient.birthDate", "min": 1},
            ]
        },
        **more,
    }


def severities(answer: Any) -> set[str]:
    return {issue["severity"] for issue in answer.json()["issue"]}


async def test_a_resource_is_validated_against_r4(world: World, rx1: Who) -> None:
    good = await world.post("Patient/$validate", a_patient("x"), rx1)
    assert (good.status_code, severities(good)) == (200, {"information"}), good.text
    bad = await world.post("Patient/$validate", {**a_patient("x"), "gender": "nonsense"}, rx1)
    assert (bad.status_code, severities(bad)) == (200, {"error"})
    assert bad.json()["issue"][0]["expression"] == ["Patient.gender"]
    other = await world.post("Observation/$validate", a_patient("x"), rx1)
    assert (other.status_code, severities(other)) == (200, {"error"})
    assert (await world.get("Patient/x", rx1)).status_code == 404, "nothing was kept"


@pytest.mark.parametrize("how", ["claim", "query", "parameters"])
async def test_a_resource_is_validated_against_a_profile_kept_here(how: str, world: World, rx1: Who) -> None:
    assert (await world.post("StructureDefinition", a_profile(), rx1)).status_code == 201
    good = a_patient("x")
    bad = {name: value for name, value in good.items() if name != "birthDate"}
    for body, faults in ((good, set()), (bad, {"Patient.birthDate"})):
        path, sent = "Patient/$validate", dict(body)
        if how == "claim":
            sent["meta"] = {"profile": [PROFILE]}
        elif how == "query":
            path += f"?profile={PROFILE}"
        else:
            parts = [{"name": "resource", "resource": body}, {"name": "profile", "valueUri": PROFILE}]
            sent = {"resourceType": "Parameters", "parameter": parts}
        answer = await world.post(path, sent, rx1)
        errors = [issue for issue in answer.json()["issue"] if issue["severity"] == "error"]
        assert answer.status_code == 200
        assert bool(errors) is bool(faults), answer.text
        assert all("birthDate" in json.dumps(issue) for issue in errors)


async def test_a_profile_may_stand_on_another(world: World, rx1: Who) -> None:
    derived = a_profile(
        "http://trust.example/derived",
        baseDefinition=PROFILE,
        differential={"element": [{"id": "Patient", "path": "Patient"}]},
    )
    for definition in (a_profile(), derived):
        assert (await world.post("StructureDefinition", definition, rx1)).status_code == 201
    bad = {name: value for name, value in a_patient("x").items() if name != "birthDate"}
    answer = await world.post("Patient/$validate?profile=http://trust.example/derived", bad, rx1)
    assert "error" in severities(answer)


async def test_a_profile_that_is_not_known_is_said_not_to_be(world: World, rx1: Who) -> None:
    answer = await world.post("Patient/$validate?profile=http://nowhere.example/x", a_patient("x"), rx1)
    assert (answer.status_code, severities(answer)) == (200, {"error"})
    assert answer.json()["issue"][0]["code"] == "not-found"


async def test_what_is_kept_is_validated_by_who_may_read_it(world: World, rx1: Who, rx2: Who) -> None:
    await world.patient(rx1, "p1")
    assert severities(await world.get("Patient/p1/$validate", rx1)) == {"information"}
    missing = await world.get("Patient/nobody/$validate", rx1)
    assert missing.status_code == 404
    before = len(await world.audit())
    await world.get("Patient/p1/$validate", rx1)
    [event] = (await world.audit())[before:]
    assert "Patient/p1" in json.dumps(event)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("Patient/$validate", "{", 400),
        ("Patient/$validate?mode=delete", {"resourceType": "Patient"}, 400),
        ("Patient/$validate?nonsense=1", {"resourceType": "Patient"}, 400),
        ("Patient/$validate", {"resourceType": "Parameters", "parameter": []}, 400),
    ],
)
async def test_what_cannot_be_asked_is_refused(
    path: str, body: Any, status: int, world: World, rx1: Who
) -> None:
    answer = await world.post(path, body, rx1)
    assert answer.status_code == status, answer.text


async def test_uk_core_is_checked_where_its_definitions_are_kept(
    world: World, rx1: Who, shared_data: Path
) -> None:
    """The example conforms; without its identifier's value it does not."""
    definitions = structure_definitions(shared_data)
    for start in range(0, len(definitions), 50):
        entries = [
            {"resource": one, "request": {"method": "POST", "url": "StructureDefinition"}}
            for one in definitions[start : start + 50]
        ]
        kept = await world.post("", {"resourceType": "Bundle", "type": "batch", "entry": entries}, rx1)
        assert kept.status_code == 200
    patient = {
        **a_patient("x"),
        "meta": {"profile": ["https://fhir.hl7.org.uk/StructureDefinition/UKCore-Patient"]},
    }
    answer = await world.post("Patient/$validate", patient, rx1)
    assert "error" not in severities(answer), answer.text
    patient["identifier"][0].pop("value")
    assert "error" in severities(await world.post("Patient/$validate", patient, rx1))


def structure_definitions(shared_data: Path) -> list[dict[str, Any]]:
    path = shared_data / "uk" / "uk-core" / "definitions" / "structuredefinitions.ndjson.xz"
    return [json.loads(line) for line in lzma.decompress(path.read_bytes()).decode().splitlines()]
