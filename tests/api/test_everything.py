"""$everything of a patient and of an encounter (R4 patient-operation-everything, encounter-operation-everything)."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.requests import Request as HttpRequest

from app.asked import Release
from app.audit.entry import Interaction
from app.errors import Conflict
from app.fhir.extent import Extent
from tests.world import DAVID, World, a_consent, an_observation, denied_to

Who = dict[str, str]
RESTRICTED: dict[str, Any] = {
    "meta": {
        "security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "V"}]
    }
}

RESOLVED = {
    "coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "resolved"}]
}


def found(bundle: Any, mode: str | None = None) -> list[str]:
    return [
        one["fullUrl"].split("/fhir/")[1]
        for one in bundle.get("entry", [])
        if "fullUrl" in one and mode in (None, one["search"]["mode"])
    ]


def timeless(text: str) -> str:
    """Without the instants at which the sources answered, which end it."""
    record, outcome, manifest = text.rpartition("OperationOutcome")
    return record + outcome + re.sub(r"T[0-9:.]{12}Z", "", manifest)


async def asked(world: World, who: Who, query: str) -> Any:
    answer = await world.get(query, who)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def keep(world: World, who: Who, *bodies: Any) -> None:
    for body in bodies:
        one = json.loads(body) if isinstance(body, str) else body
        answer = await world.put(f"{one['resourceType']}/{one['id']}", body, who)
        assert answer.status_code in (200, 201), answer.text


def reference(to: str) -> dict[str, str]:
    return {"reference": to}


def condition(id: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Condition",
        "id": id,
        "subject": reference("Patient/p1"),
        "code": {"text": id},
        **more,
    }


def encounter(id: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Encounter",
        "id": id,
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
        "subject": reference("Patient/p1"),
        **more,
    }


async def directory(world: World, who: Who) -> None:
    """A role of a practitioner at a ward of a trust that is part of another."""
    await keep(
        world,
        who,
        {"resourceType": "Organization", "id": "above", "name": "above"},
        {
            "resourceType": "Organization",
            "id": "trust",
            "name": "trust",
            "partOf": reference("Organization/above"),
        },
        {"resourceType": "Location", "id": "ward", "managingOrganization": reference("Organization/trust")},
        {"resourceType": "Practitioner", "id": "doc", "name": [{"family": "Doc"}]},
        {"resourceType": "Practitioner", "id": "unrelated", "name": [{"family": "No"}]},
        {
            "resourceType": "PractitionerRole",
            "id": "role",
            "practitioner": reference("Practitioner/doc"),
            "location": [reference("Location/ward")],
        },
    )


SUPPORT = [
    "Location/ward",
    "Organization/above",
    "Organization/trust",
    "Practitioner/doc",
    "PractitionerRole/role",
]


async def a_record(world: World, who: Who) -> None:
    await world.patient(who, "p1")
    await directory(world, who)
    await keep(
        world,
        who,
        an_observation("p1", id="o1", performer=[reference("PractitionerRole/role")]),
        an_observation("p1", id="o2"),
        condition("c1"),
    )


# Of a patient.


async def test_the_compartment_is_a_match_and_what_it_refers_to_an_include(world: World, rx1: Who) -> None:
    await a_record(world, rx1)
    bundle = await asked(world, rx1, "Patient/p1/$everything")
    matches = ["Condition/c1", "Observation/o1", "Observation/o2", "Patient/p1"]
    assert found(bundle) == [*matches, *SUPPORT]
    assert found(bundle, "match") == matches
    assert found(bundle, "include") == SUPPORT
    assert bundle["total"] == 4
    assert bundle["link"] == [{"relation": "self", "url": f"{world.base}/Patient/p1/$everything"}]


async def test_the_digits_are_kept_in_every_form_of_the_answer(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    await keep(world, rx1, an_observation("p1", value="1.50", id="o1"))
    for query in ("", "?_count=5", "?_pretty=true", "?_format=xml"):
        answer = await world.get(f"Patient/p1/$everything{query}", rx1)
        assert answer.status_code == 200
        assert "1.50" in answer.text, query


async def test_a_streamed_answer_is_the_same_text_as_a_page_that_holds_all(world: World, rx1: Who) -> None:
    await a_record(world, rx1)
    for number in range(230):
        await keep(world, rx1, an_observation("p1", value=f"{number}.00", id=f"many{number}"))
    for coding in ("gzip", "identity"):
        streamed = await world.get("Patient/p1/$everything", rx1, Accept_Encoding=coding)
        paged = await world.get("Patient/p1/$everything?_count=1000", rx1, Accept_Encoding=coding)
        assert "content-length" not in streamed.headers and "content-length" in paged.headers
        for name in ("content-type", "content-encoding", "vary"):
            assert streamed.headers.get(name) == paged.headers.get(name), name
        assert timeless(streamed.text) == timeless(paged.text).replace("?_count=1000", "")
        assert len(found(streamed.json())) == 239


async def test_pages_together_are_the_whole(world: World, rx1: Who) -> None:
    await a_record(world, rx1)
    whole = await asked(world, rx1, "Patient/p1/$everything")
    for count in (1, 3, 4, 5, 9):
        entries, page = [], await asked(world, rx1, f"Patient/p1/$everything?_count={count}")
        while True:
            assert page["total"] == 4
            entries += [one for one in page["entry"] if "fullUrl" in one]
            following = [one["url"] for one in page["link"] if one["relation"] == "next"]
            if not following:
                break
            page = await asked(world, rx1, following[0].split("/fhir/")[1])
        assert entries == [one for one in whole["entry"] if "fullUrl" in one], count
    counted = await asked(world, rx1, "Patient/p1/$everything?_count=0")
    assert (found(counted), counted["total"]) == ([], 4)


async def test_a_page_after_a_revocation_holds_nothing(world: World, rx1: Who, rx2: Who) -> None:
    await a_record(world, rx1)
    page = await asked(world, rx2, "Patient/p1/$everything?_count=1")
    [following] = [one["url"] for one in page["link"] if one["relation"] == "next"]
    await world.post("Consent", a_consent("p1", **denied_to("RX2")), rx1)
    assert (await world.get(following.split("/fhir/")[1], rx2)).status_code == 404


@pytest.mark.parametrize(
    "types", ["Observation", "Practitioner", "Observation,Location", "Patient", "Account"]
)
async def test_a_type_takes_away_nothing_but_the_others(types: str, world: World, rx1: Who) -> None:
    await a_record(world, rx1)
    whole = found(await asked(world, rx1, "Patient/p1/$everything"))
    wanted = [one for one in whole if one.split("/")[0] in types.split(",")]
    for query in (f"_type={types}", "&".join(f"_type={one}" for one in types.split(","))):
        assert found(await asked(world, rx1, f"Patient/p1/$everything?{query}")) == wanted
    body = {
        "resourceType": "Parameters",
        "parameter": [{"name": "_type", "valueCode": one} for one in types.split(",")],
    }
    assert found((await world.post("Patient/p1/$everything", body, rx1)).json()) == wanted


async def test_care_dates_bound_what_has_any(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    await keep(
        world,
        rx1,
        encounter("e2019", period={"start": "2019-01-01", "end": "2019-01-03"}),
        encounter("e2020", period={"start": "2020-01-01", "end": "2020-01-03"}),
        encounter("undated"),
        condition("ongoing", onsetDateTime="2019-06"),
        condition("over", onsetDateTime="2018", abatementDateTime="2019-12-31", clinicalStatus=RESOLVED),
        an_observation("p1", id="o", effectiveDateTime="2020-01-01T00:30:00+01:00"),  # 2019 in UTC
        {
            "resourceType": "AllergyIntolerance",
            "clinicalStatus": {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical",
                        "code": "active",
                    }
                ]
            },
            "id": "a",
            "patient": reference("Patient/p1"),
            "code": {"text": "a"},
        },
    )
    always = {"Patient/p1", "Encounter/undated", "AllergyIntolerance/a"}
    for query, expected in {
        "start=2020-01-01": {"Encounter/e2020", "Condition/ongoing"},
        "start=2020-01-03": {"Encounter/e2020", "Condition/ongoing"},
        "start=2020-01-04": {"Condition/ongoing"},
        "end=2019-06": {"Encounter/e2019", "Condition/ongoing", "Condition/over"},
        "end=2019-05": {"Encounter/e2019", "Condition/over"},
        "end=2018-12-31": {"Condition/over"},
        "start=2019-12-31&end=2019-12-31": {"Condition/ongoing", "Condition/over", "Observation/o"},
    }.items():
        bundle = await asked(world, rx1, f"Patient/p1/$everything?{query}")
        assert set(found(bundle)) == always | expected, query
        assert bundle["total"] == len(always | expected)
    dated = {"resourceType": "Parameters", "parameter": [{"name": "start", "valueDate": "2020-01-04"}]}
    bundle = (await world.post("Patient/p1/$everything", dated, rx1)).json()
    assert set(found(bundle)) == always | {"Condition/ongoing"}


async def test_what_has_not_changed_since_is_left_out(world: World, rx1: Who) -> None:
    await a_record(world, rx1)
    await keep(world, rx1, condition("new", recorder=reference("Practitioner/unrelated")))
    made = (await world.get("Condition/new", rx1)).json()["meta"]["lastUpdated"]
    bundle = await asked(world, rx1, f"Patient/p1/$everything?_since={made}")
    assert found(bundle, "match") == ["Condition/new"]
    assert found(bundle, "include") == ["Practitioner/unrelated"]


@pytest.mark.parametrize(
    "query",
    [
        "start=yesterday",
        "end=2020-13",
        "_since=x",
        "_type=Nonsense",
        "_type=observation",
        "_count=x",
        "_count=-1",
        "start=2020-01-02&end=2020-01-01",
        "start=2020&start=2021",
        "_elements=id",
        "mdm=true",
    ],
)
async def test_what_cannot_be_asked_is_refused_by_name(query: str, world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    answer = await world.get(f"Patient/p1/$everything?{query}", rx1)
    assert answer.status_code == 400
    name = query.partition("=")[0]
    assert answer.json()["issue"][0]["diagnostics"].startswith(("end" if "&end" in query else name) + ":")


@pytest.mark.parametrize(
    "body",
    [
        {"resourceType": "Patient"},
        {"resourceType": "Parameters", "parameter": [{"name": "start", "valueString": "2020"}]},
        {"resourceType": "Parameters", "parameter": [{"name": "start", "valueInteger": 2020}]},
        {"resourceType": "Parameters", "parameter": [{"name": "other", "valueString": "x"}]},
        {"resourceType": "Parameters", "parameter": [{"name": "_count"}]},
        {"resourceType": "Parameters", "parameter": {}},
        {"resourceType": "Parameters", "parameter": ["x"]},
    ],
)
async def test_a_body_that_cannot_be_read_is_refused(body: Any, world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    assert (await world.post("Patient/p1/$everything", body, rx1)).status_code == 400


async def test_there_is_no_everything_of_everybody(world: World, rx1: Who) -> None:
    await a_record(world, rx1)
    assert (await world.get("Patient/$everything", rx1)).status_code in (404, 405)
    assert (await world.get("Encounter/$everything", rx1)).status_code in (404, 405)


# What is withheld.


@pytest.mark.parametrize("query", ["", "?_count=2", "?_type=Practitioner,Observation", "?_pretty=true"])
async def test_what_is_withheld_leaves_no_trace(query: str, world: World, rx1: Who, rx2: Who) -> None:
    await a_record(world, rx1)
    hidden = {"performer": [reference("Practitioner/unrelated")], **RESTRICTED}

    async def seen() -> str:
        text = timeless((await world.get(f"Patient/p1/$everything{query}", rx2)).text)
        return text if "_cursor" not in text else text[: text.index("_cursor")] + text[text.index("entry") :]

    without = await seen()
    await keep(world, rx1, an_observation("p1", id="hidden", **hidden), condition("h2", **RESTRICTED))
    assert await seen() == without


async def test_only_types_in_scope_are_given_and_added(world: World, rx1: Who) -> None:
    await a_record(world, rx1)
    few = await world.bearer(
        "rx1", scope="system/Patient.rs system/Observation.rs system/PractitionerRole.rs"
    )
    bundle = await asked(world, few, "Patient/p1/$everything")
    assert found(bundle) == ["Observation/o1", "Observation/o2", "Patient/p1", "PractitionerRole/role"]
    none = await world.bearer("rx1", scope="system/Observation.rs")
    assert (await world.get("Patient/p1/$everything", none)).status_code == 403


async def test_nothing_leads_to_somebody_elses_record(world: World, rx1: Who) -> None:
    await a_record(world, rx1)
    await world.patient(rx1, "p2", DAVID)
    await keep(
        world,
        rx1,
        {"resourceType": "Device", "id": "theirs", "patient": reference("Patient/p2")},
        {"resourceType": "Device", "id": "own", "patient": reference("Patient/p1")},
        {"resourceType": "Device", "id": "nobodys"},
        an_observation("p2", id="other"),
        an_observation(
            "p1",
            id="o3",
            device=reference("Device/theirs"),
            focus=[reference("Device/own"), reference("Device/nobodys"), reference("Observation/other")],
        ),
    )
    bundle = await asked(world, rx1, "Patient/p1/$everything?_type=Device,Observation")
    assert found(bundle, "include") == ["Device/nobodys", "Device/own"]
    assert found(bundle, "match") == ["Observation/o1", "Observation/o2", "Observation/o3"]


async def test_each_answer_is_recorded_with_all_that_left(world: World, rx1: Who) -> None:
    await a_record(world, rx1)
    for query in ("Patient/p1/$everything", "Patient/p1/$everything?_format=xml"):
        before = len(await world.audit())
        await world.get(query, rx1)
        [entry] = (await world.audit())[before:]
        told = {
            one["what"].get("reference", "").partition("/_history")[0]
            for one in entry["entity"]
            if "what" in one
        }
        assert told >= {"Condition/c1", "Observation/o1", "Observation/o2", "Patient/p1", *SUPPORT}
        assert "Practitioner/unrelated" not in told


async def test_references_that_lead_nowhere_or_in_circles_do_no_harm(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    circle = {"resourceType": "Organization", "name": "x"}
    await keep(
        world,
        rx1,
        {**circle, "id": "a", "partOf": reference("Organization/b")},
        {**circle, "id": "b", "partOf": reference(f"{world.base}/Organization/a")},
        {**circle, "id": "gone"},
        an_observation(
            "p1",
            id="o",
            performer=[
                reference("Organization/a"),
                reference("Organization/gone"),
                reference("Organization/never"),
                reference("http://elsewhere.example/fhir/Organization/a"),
                reference("#c"),
                {"display": "somebody"},
            ],
            contained=[{**circle, "id": "c", "partOf": reference("Organization/b")}],
        ),
    )
    await world.delete("Organization/gone", rx1)
    bundle = await asked(world, rx1, "Patient/p1/$everything")
    assert found(bundle, "include") == ["Organization/a", "Organization/b"]


# While it is sent.


async def released(world: World, who: Who) -> Release:
    """The answer of the use case itself, whose text has not been read yet."""
    headers = [(b"authorization", who["Authorization"].encode())]
    scope = {"type": "http", "method": "GET", "path": "/fhir/Patient/p1/$everything", "query_string": b""}
    door, disclosure = world.node.use_cases.door, world.node.use_cases.disclosure
    asked = door.asked(HttpRequest({**scope, "headers": headers}), Interaction.EVERYTHING)
    return await disclosure.everything(asked, "p1", Extent())


async def sent(release: Release) -> AsyncIterator[str]:
    assert release.pieces is not None
    async for piece in release.pieces():
        yield piece


async def test_it_is_recorded_before_its_first_byte_and_sent_as_it_was_decided(
    world: World, rx1: Who
) -> None:
    await a_record(world, rx1)
    whole = timeless((await world.get("Patient/p1/$everything", rx1)).text)
    before = len(await world.audit())
    release = await released(world, rx1)
    assert len(release.receipts) == 1 and len(await world.audit()) == before + 1
    await keep(world, rx1, an_observation("p1", value="99", id="o1"), condition("c1", note=[{"text": "n"}]))
    await world.delete("Observation/o2", rx1)
    assert timeless("".join([piece async for piece in sent(release)])) == whole


async def test_a_long_record_is_sent_in_pieces(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    for number in range(250):
        await keep(world, rx1, an_observation("p1", id=f"o{number}"))
    release = await released(world, rx1)
    pieces = [piece async for piece in sent(release)]
    assert len(pieces) >= 4 and len(json.loads("".join(pieces))["entry"]) == 252
    assert max(map(len, pieces)) < len("".join(pieces)) / 2


async def test_an_answer_that_breaks_off_is_no_whole_one(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    for number in range(150):
        await keep(world, rx1, an_observation("p1", id=f"o{number}"))
    release, pieces = await released(world, rx1), sent(await released(world, rx1))
    begun = [await anext(pieces), await anext(pieces)]
    async with world.owner.connection() as connection:
        await connection.execute("DELETE FROM resource WHERE id = 'o99'")
    with pytest.raises(Conflict):
        begun += [piece async for piece in pieces]
    with pytest.raises(json.JSONDecodeError):
        json.loads("".join(begun))
    with pytest.raises(Conflict):
        [piece async for piece in sent(release)]


@pytest.mark.parametrize("kind", ["batch", "transaction"])
async def test_a_bundle_holds_it_whole(kind: str, world: World, rx1: Who) -> None:
    await a_record(world, rx1)
    request = {"method": "GET", "url": "Patient/p1/$everything"}
    answer = await world.post(
        "", {"resourceType": "Bundle", "type": kind, "entry": [{"request": request}]}, rx1
    )
    assert answer.status_code == 200, answer.text
    [entry] = answer.json()["entry"]
    assert entry["response"]["status"].startswith("200")
    assert found(entry["resource"]) == found(await asked(world, rx1, "Patient/p1/$everything"))


# Of an encounter.


async def a_visit(world: World, who: Who) -> None:
    await a_record(world, who)
    await keep(
        world,
        who,
        condition("cause"),
        encounter(
            "e1",
            participant=[{"individual": reference("Practitioner/doc")}],
            location=[{"location": reference("Location/ward")}],
            diagnosis=[{"condition": reference("Condition/cause")}],
        ),
        encounter("e2", participant=[{"individual": reference("Practitioner/unrelated")}]),
        an_observation("p1", id="in", encounter=reference("Encounter/e1")),
        an_observation("p1", id="in2", encounter=reference("Encounter/e2")),
        condition("found", encounter=reference("Encounter/e1")),
        {
            "resourceType": "MedicationAdministration",
            "id": "ma",
            "status": "completed",
            "subject": reference("Patient/p1"),
            "context": reference("Encounter/e1"),
            "medicationReference": reference("Medication/m"),
            "effectiveDateTime": "2026-01-01",
        },
        {"resourceType": "Medication", "id": "m"},
        {  # has the parameter, and is not in R4's compartment
            "resourceType": "Flag",
            "id": "f",
            "status": "active",
            "code": {"text": "f"},
            "subject": reference("Patient/p1"),
            "encounter": reference("Encounter/e1"),
        },
    )


async def test_an_encounters_everything_is_its_compartment_and_what_that_refers_to(
    world: World, rx1: Who
) -> None:
    await a_visit(world, rx1)
    bundle = await asked(world, rx1, "Encounter/e1/$everything")
    assert found(bundle, "match") == [
        "Condition/found",
        "Encounter/e1",
        "MedicationAdministration/ma",
        "Observation/in",
    ]
    assert found(bundle, "include") == [
        "Condition/cause",
        "Location/ward",
        "Medication/m",
        "Organization/above",
        "Organization/trust",
        "Patient/p1",
        "Practitioner/doc",
    ]
    assert bundle["total"] == 4
    posted = await world.post("Encounter/e1/$everything", {"resourceType": "Parameters"}, rx1)
    assert posted.json()["entry"] == bundle["entry"]


async def test_an_encounters_everything_comes_in_pages_and_parts(world: World, rx1: Who) -> None:
    await a_visit(world, rx1)
    whole = found(await asked(world, rx1, "Encounter/e1/$everything"))
    seen, page = [], await asked(world, rx1, "Encounter/e1/$everything?_count=3")
    while True:
        seen += found(page)
        following = [one["url"] for one in page["link"] if one["relation"] == "next"]
        if not following:
            break
        page = await asked(world, rx1, following[0].split("/fhir/")[1])
    assert seen == whole
    part = await asked(world, rx1, "Encounter/e1/$everything?_type=Observation,Patient")
    assert found(part) == ["Observation/in", "Patient/p1"]
    assert (await world.get("Encounter/e1/$everything?start=2020", rx1)).status_code == 400
    assert found(await asked(world, rx1, "Encounter/e1/$everything?_since=2101")) == []


async def test_what_is_withheld_of_an_encounter_leaves_no_trace(world: World, rx1: Who, rx2: Who) -> None:
    await a_visit(world, rx1)
    without = (await world.get("Encounter/e1/$everything", rx2)).text
    await keep(
        world,
        rx1,
        an_observation("p1", id="h", encounter=reference("Encounter/e1"), **RESTRICTED),
    )
    assert (await world.get("Encounter/e1/$everything", rx2)).text == without
    await keep(world, rx1, encounter("closed", **RESTRICTED))
    closed = await world.get("Encounter/closed/$everything", rx2)
    never = await world.get("Encounter/never/$everything", rx2)
    assert (closed.status_code, closed.text) == (never.status_code, never.text) == (404, never.text)
    await world.post("Consent", a_consent("p1", **denied_to("RX2")), rx1)
    assert (await world.get("Encounter/e1/$everything", rx2)).status_code == 404


async def test_an_encounter_that_was_deleted_is_gone(world: World, rx1: Who) -> None:
    await a_visit(world, rx1)
    await world.delete("Encounter/e1", rx1)
    assert (await world.get("Encounter/e1/$everything", rx1)).status_code == 410


async def test_an_encounter_of_nobody_has_its_compartment_too(world: World, rx1: Who) -> None:
    nobodys = encounter("n")
    del nobodys["subject"]
    await keep(world, rx1, nobodys)
    bundle = await asked(world, rx1, "Encounter/n/$everything")
    assert found(bundle) == ["Encounter/n"]
