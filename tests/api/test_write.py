"""Writing: create, update, delete, and who may (R4 http, 3.1.0.8)."""

import asyncio
from typing import Any

import pytest

from tests.world import NHS, World, a_patient, an_observation

Who = dict[str, str]


async def test_a_created_record_says_where_it_is(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    made = await world.post("Observation", an_observation("p1", id="mine"), rx1)
    assert made.status_code == 201
    assert made.headers["etag"] == 'W/"1"' and "last-modified" in made.headers
    assert made.headers["location"].endswith("/_history/1")
    assert made.json()["id"] != "mine"


async def test_an_update_makes_the_next_version_and_an_identical_one_none(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    text = an_observation("p1", id="o1")
    assert (await world.put("Observation/o1", text, rx1)).status_code == 201
    again = await world.put("Observation/o1", text, rx1)
    assert (again.status_code, again.headers["etag"]) == (200, 'W/"1"')
    changed = await world.put("Observation/o1", an_observation("p1", value="73", id="o1"), rx1)
    assert (changed.status_code, changed.headers["etag"]) == (200, 'W/"2"')


async def test_a_stale_if_match_is_refused_and_changes_nothing(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    for value in ("1", "2"):
        await world.put("Observation/o1", an_observation("p1", value=value, id="o1"), rx1)
    stale = await world.put("Observation/o1", an_observation("p1", value="3", id="o1"), rx1, If_Match='W/"1"')
    assert stale.status_code == 412
    assert (await world.get("Observation/o1", rx1)).headers["etag"] == 'W/"2"'


async def test_another_organisation_writes_nothing_of_ours(world: World, rx1: Who, rx2: Who) -> None:
    await world.patient(rx1, "p1")
    await world.put("Observation/o1", an_observation("p1", id="o1"), rx1)
    assert (await world.put("Observation/o1", an_observation("p1", id="o1"), rx2)).status_code == 403
    assert (await world.delete("Observation/o1", rx2)).status_code == 403
    assert (await world.post("Observation", an_observation("p1"), rx2)).status_code == 403
    assert (await world.get("Observation/o1", rx1)).headers["etag"] == 'W/"1"'


async def test_a_nonsense_status_is_refused_by_name(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    refused = await world.post("Observation", an_observation("p1", status="nonsense"), rx1)
    assert refused.status_code == 422
    assert refused.json()["issue"][0]["expression"] == ["Observation.status"]


async def test_a_put_must_carry_the_id_of_its_address(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    assert (await world.put("Observation/o1", an_observation("p1", id="o2"), rx1)).status_code == 400
    assert (await world.put("Observation/o1", an_observation("p1"), rx1)).status_code == 400


async def test_deleting_twice_is_quiet(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    await world.put("Observation/o1", an_observation("p1", id="o1"), rx1)
    assert [(await world.delete("Observation/o1", rx1)).status_code for _ in range(2)] == [204, 204]
    back = await world.put("Observation/o1", an_observation("p1", id="o1"), rx1)
    assert (back.status_code, back.headers["etag"]) == (201, 'W/"3"')


async def test_thirty_two_conditional_creates_make_one_resource(world: World, rx1: Who) -> None:
    organisation = {
        "resourceType": "Organization",
        "identifier": [{"system": "urn:x", "value": "only-one"}],
        "name": "Only One",
    }
    answers = await asyncio.gather(
        *(
            world.post("Organization", organisation, rx1, If_None_Exist="identifier=urn:x|only-one")
            for _ in range(32)
        )
    )
    assert sorted({one.status_code for one in answers}) == [200, 201]
    assert [one.status_code for one in answers].count(201) == 1
    found = (await world.get("Organization?identifier=urn:x|only-one", rx1)).json()
    assert len(found["entry"]) == 1


@pytest.mark.parametrize(
    ("body", "media", "status"),
    [
        ("{", "application/fhir+json", 400),
        ("[]", "application/fhir+json", 400),
        ('{"resourceType":"Observation","status":"final","status":"final"}', "application/fhir+json", 400),
        ('{"resourceType":"Patient"}', "application/fhir+json", 422),
        ("<Observation/>", "application/fhir+xml", 400),
        ("<Observation/>", "text/turtle", 415),
        ("{}", "text/plain", 415),
    ],
)
async def test_a_bad_body_is_answered_and_kept_nowhere(
    world: World, rx1: Who, body: str, media: str, status: int
) -> None:
    answer = await world.http.post("/fhir/Observation", content=body, headers={**rx1, "Content-Type": media})
    assert answer.status_code in (status, 400 if status == 422 else status), answer.text
    assert answer.json()["resourceType"] == "OperationOutcome"


async def test_wrong_methods_and_media_are_answered_as_fhir_wants(world: World, rx1: Who) -> None:
    patched = await world.http.patch("/fhir/Observation/_search", content=b"[]", headers=rx1)
    assert patched.status_code == 405 and "POST" in patched.headers["allow"]
    assert (await world.http.patch("/fhir/Observation/o1", content=b"[]", headers=rx1)).status_code == 415
    assert (await world.get("Patient/p1", rx1, Accept="text/plain")).status_code == 406
    assert (await world.http.get("/fhir/nothing/of/the/kind/here", headers=rx1)).status_code == 404


async def test_a_transaction_is_kept_whole_with_its_references_rewritten(world: World, rx1: Who) -> None:
    bundle = _bundle(
        ("urn:uuid:00000000-0000-4000-8000-000000000001", "POST", "Patient", a_patient("ignored")),
        (
            "urn:uuid:00000000-0000-4000-8000-000000000002",
            "POST",
            "Observation",
            {
                "resourceType": "Observation",
                "status": "final",
                "code": {"text": "urn:uuid:00000000-0000-4000-8000-000000000001 in free text"},
                "subject": {"reference": "urn:uuid:00000000-0000-4000-8000-000000000001"},
                "performer": [{"reference": "Practitioner?identifier=urn:x|7"}],
            },
        ),
    )
    missing = await world.post("", bundle, rx1)
    assert (
        missing.status_code == 412
        and (await world.get(f"Patient?identifier={NHS}|9990000018", rx1)).json().get("entry") is None
    )
    practitioner = {"resourceType": "Practitioner", "identifier": [{"system": "urn:x", "value": "7"}]}
    known = (await world.post("Practitioner", practitioner, rx1)).json()["id"]
    answer = await world.post("", bundle, rx1)
    assert answer.status_code == 200, answer.text
    entries = answer.json()["entry"]
    assert [one["response"]["status"] for one in entries] == ["201 Created", "201 Created"]
    kept = entries[1]["resource"]
    assert kept["subject"]["reference"] == f"Patient/{entries[0]['resource']['id']}"
    assert kept["performer"][0]["reference"] == f"Practitioner/{known}"
    assert kept["code"]["text"].startswith("urn:uuid:")


async def test_a_failing_entry_leaves_nothing_of_its_transaction(world: World, rx1: Who) -> None:
    good = (None, "PUT", "Patient/p1", a_patient("p1"))
    bad = (None, "PUT", "Observation/o1", {"resourceType": "Observation", "id": "o1", "status": "nonsense"})
    answer = await world.post("", _bundle(good, bad), rx1)
    assert answer.status_code == 422
    assert any("Bundle.entry[1].resource" in issue["expression"][0] for issue in answer.json()["issue"])
    assert (await world.get("Patient/p1", rx1)).status_code == 404


async def test_two_entries_may_not_mean_the_same_resource(world: World, rx1: Who) -> None:
    twice = (None, "PUT", "Patient/p1", a_patient("p1"))
    assert (await world.post("", _bundle(twice, twice), rx1)).status_code == 400


async def test_each_entry_of_a_batch_stands_for_itself(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    batch = _bundle(
        (None, "GET", "Patient/p1", None),
        (None, "GET", "Patient/nobody", None),
        (None, "POST", "Observation", {"resourceType": "Observation"}),
        kind="batch",
    )
    answer = await world.post("", batch, rx1)
    assert answer.status_code == 200, answer.text
    statuses = [one["response"]["status"].split()[0] for one in answer.json()["entry"]]
    assert statuses == ["200", "404", "422"]


def _bundle(*entries: tuple[str | None, str, str, Any], kind: str = "transaction") -> dict[str, Any]:
    rendered = []
    for full_url, method, url, resource in entries:
        entry: dict[str, Any] = {"request": {"method": method, "url": url}}
        if full_url:
            entry["fullUrl"] = full_url
        if resource:
            entry["resource"] = resource
        rendered.append(entry)
    return {"resourceType": "Bundle", "type": kind, "entry": rendered}


@pytest.mark.parametrize("way", ["create", "update", "transaction", "delete"])
async def test_a_write_about_two_people_leaves_an_entry_for_each(world: World, rx1: Who, way: str) -> None:
    await world.patient(rx1, "p1")
    await world.patient(rx1, "p2", "9990000026", birthDate="1960-01-01")
    shared = {
        "resourceType": "Appointment",
        "id": "a1",
        "status": "proposed",
        "participant": [
            {"actor": {"reference": f"Patient/{id}"}, "status": "accepted"} for id in ("p1", "p2")
        ],
    }
    if way == "delete":
        assert (await world.put("Appointment/a1", shared, rx1)).status_code == 201
    before = len(await world.audit())
    if way == "create":
        answer = await world.post("Appointment", shared, rx1)
    elif way == "update":
        answer = await world.put("Appointment/a1", shared, rx1)
    elif way == "delete":
        answer = await world.delete("Appointment/a1", rx1)
    else:
        answer = await world.post("", _bundle((None, "PUT", "Appointment/a1", shared)), rx1)
    assert answer.status_code in (200, 201, 204), answer.text
    told = (await world.audit())[before:]
    whose = [
        one["what"]["reference"] for event in told for one in event["entity"] if one["type"]["code"] == "1"
    ]
    assert sorted(whose) == ["Patient/p1", "Patient/p2"]
