"""Searching one patient's record and everybody's (R4 search)."""

from typing import Any

import pytest

from app.vocabulary import PurposeOfUse
from tests.world import DAVID, MARGARET, NHS, World, a_consent, an_observation, denied_to

Who = dict[str, str]


def matches(bundle: dict[str, Any]) -> list[dict[str, Any]]:
    return [one["resource"] for one in bundle.get("entry", []) if one["search"]["mode"] == "match"]


def outcomes(bundle: dict[str, Any]) -> list[dict[str, Any]]:
    return [one["resource"] for one in bundle.get("entry", []) if one["search"]["mode"] == "outcome"]


def next_link(bundle: dict[str, Any]) -> str | None:
    found = [one["url"] for one in bundle["link"] if one["relation"] == "next"]
    return found[0].split("/fhir/")[1] if found else None


async def _observations(world: World, who: Who, patient: str, count: int, **more: Any) -> None:
    for day in range(1, count + 1):
        text = an_observation(patient, value=str(day), effectiveDateTime=f"2026-03-{day:02d}", **more)
        assert (await world.post("Observation", text, who)).status_code == 201


async def test_a_patients_observations_are_found_with_a_line_for_each_source(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    await _observations(world, rx1, "p1", 3)
    bundle = (await world.get("Observation?patient=p1&code=http://loinc.org|8867-4", rx1)).json()
    assert (bundle["type"], bundle["total"], len(matches(bundle))) == ("searchset", 3, 3)
    [outcome] = outcomes(bundle)
    assert [issue["details"]["coding"][0]["code"] for issue in outcome["issue"]] == ["fresh"]


async def test_one_person_is_found_across_custodians_by_nhs_number(world: World, rx1: Who, rx2: Who) -> None:
    await world.patient(rx1, "p1")
    await world.patient(rx2, "p2")
    await _observations(world, rx1, "p1", 2)
    await _observations(world, rx2, "p2", 1)
    for patient in ("p1", "p2"):
        bundle = (await world.get(f"Observation?patient={patient}", rx1)).json()
        assert bundle["total"] == 3
        lines = outcomes(bundle)[0]["issue"]
        assert len(lines) == 2


async def test_another_date_of_birth_under_the_same_number_is_not_joined(
    world: World, rx1: Who, rx2: Who
) -> None:
    await world.patient(rx1, "p1")
    await world.patient(rx2, "p2", birthDate="1999-12-31")
    await _observations(world, rx2, "p2", 1)
    assert (await world.get("Observation?patient=p1", rx1)).json()["total"] == 0


async def test_patients_are_found_by_nhs_number_and_linked_to_each_other(
    world: World, rx1: Who, rx2: Who
) -> None:
    await world.patient(rx1, "p1")
    await world.patient(rx2, "p2")
    bundle = (await world.get(f"Patient?identifier={NHS}|{MARGARET}", rx1)).json()
    linked = {one["id"]: one["link"][0]["other"]["reference"] for one in matches(bundle)}
    assert linked == {"p1": "Patient/p2", "p2": "Patient/p1"}
    assert len((await world.get(f"Patient?identifier={NHS}|{DAVID}", rx1)).json().get("entry", [])) == 0


async def test_a_patient_who_keeps_out_one_trust_is_not_known_to_it(world: World, rx1: Who, rx2: Who) -> None:
    await world.patient(rx1, "p1")
    await _observations(world, rx1, "p1", 2)
    await world.post("Consent", a_consent("p1", **denied_to("RX2")), rx1)
    refused = await world.get("Observation?patient=p1", rx2)
    unknown = await world.get("Observation?patient=nobody", rx2)
    assert refused.status_code == unknown.status_code == 200
    assert refused.json()["total"] == unknown.json()["total"] == 0
    assert _without_instants(refused.text.replace("p1", "x")) == _without_instants(
        unknown.text.replace("nobody", "x")
    )
    assert matches((await world.get(f"Patient?identifier={NHS}|{MARGARET}", rx2)).json()) == []


def _without_instants(text: str) -> str:
    import re

    return re.sub(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(Z|\+00:00)", "", text)


async def test_what_is_labelled_and_denied_is_absent_from_results_and_totals(
    world: World, rx1: Who, rx2: Who
) -> None:
    await world.patient(rx1, "p1")
    await _observations(world, rx1, "p1", 2)
    psychiatric = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "PSY"}
    await _observations(world, rx1, "p1", 1, meta={"security": [psychiatric]})
    deny = {"type": "deny", "securityLabel": [psychiatric]}
    made = await world.post("Consent", a_consent("p1", type="permit", provision=[deny]), rx1)
    assert made.status_code == 201, made.text
    bundle = (await world.get("Observation?patient=p1&_count=2", rx2)).json()
    assert (bundle["total"], len(matches(bundle)), next_link(bundle)) == (2, 2, None)


async def test_emergency_access_opens_the_record_of_the_one_person(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    await _observations(world, rx1, "p1", 1)
    await world.post("Consent", a_consent("p1", **denied_to("RX2")), rx1)
    emergency = await world.bearer("rx2", purpose=PurposeOfUse.ETREAT, emergency_for=MARGARET)
    assert (await world.get("Observation?patient=p1", emergency)).json()["total"] == 1
    other = await world.bearer("rx2", purpose=PurposeOfUse.ETREAT, emergency_for=DAVID)
    assert (await world.get("Observation?patient=p1", other)).status_code == 404
    told = (await world.audit())[-2]
    assert told["purposeOfEvent"][0]["coding"][0]["code"] == "ETREAT"
    assert "unconscious in A&E" in str(told)


async def test_pages_hold_every_resource_once_in_order(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    await _observations(world, rx1, "p1", 7)
    path: str | None = "Observation?patient=p1&_sort=date&_count=3"
    days: list[str] = []
    while path:
        bundle = (await world.get(path, rx1)).json()
        assert bundle["total"] == 7
        days += [one["effectiveDateTime"] for one in matches(bundle)]
        path = next_link(bundle)
    assert days == [f"2026-03-{day:02d}" for day in range(1, 8)]


async def test_a_page_link_is_of_no_use_to_another_caller(world: World, rx1: Who, rx2: Who) -> None:
    await world.patient(rx1, "p1")
    await _observations(world, rx1, "p1", 3)
    link = next_link((await world.get("Observation?patient=p1&_count=1", rx1)).json())
    assert link is not None
    assert (await world.get(link, rx2)).status_code == 400
    assert (await world.get(link[:-2] + "AA", rx1)).status_code == 400
    assert (await world.get(link, rx1)).status_code == 200


async def test_consent_withdrawn_between_pages_closes_the_next_page(world: World, rx1: Who, rx2: Who) -> None:
    await world.patient(rx1, "p1")
    await _observations(world, rx1, "p1", 3)
    link = next_link((await world.get("Observation?patient=p1&_count=1", rx2)).json())
    assert link is not None
    await world.post("Consent", a_consent("p1", **denied_to("RX2")), rx1)
    assert matches((await world.get(link, rx2)).json()) == []


async def test_what_is_not_supported_is_named_or_refused_but_never_ignored(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    lenient = (await world.get("Observation?patient=p1&foo=bar", rx1)).json()
    assert "foo" in str(outcomes(lenient)) and "foo" not in lenient["link"][0]["url"]
    strict = await world.get("Observation?patient=p1&foo=bar", rx1, Prefer="handling=strict")
    assert strict.status_code == 400 and "foo" in strict.text


@pytest.mark.parametrize("query", ["date=1973-02-30", "_count=many", "_lastUpdated=xx", "date=gt"])
async def test_a_value_of_the_wrong_form_is_a_400_that_names_it(world: World, rx1: Who, query: str) -> None:
    await world.patient(rx1, "p1")
    answer = await world.get(f"Observation?patient=p1&{query}", rx1)
    assert answer.status_code == 400
    assert query.split("=")[0] in answer.text


async def test_a_search_may_be_posted(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    await _observations(world, rx1, "p1", 2)
    form = {"Content-Type": "application/x-www-form-urlencoded", **rx1}
    answer = await world.http.post("/fhir/Observation/_search?_count=1", content=b"patient=p1", headers=form)
    assert answer.status_code == 200
    assert (answer.json()["total"], len(matches(answer.json()))) == (2, 1)


async def test_everything_is_the_whole_compartment(world: World, rx1: Who, rx2: Who) -> None:
    await world.patient(rx1, "p1")
    await world.patient(rx2, "p2")
    await _observations(world, rx1, "p1", 2)
    await _observations(world, rx2, "p2", 1)
    bundle = (await world.get("Patient/p1/$everything", rx1)).json()
    kinds = sorted(one["resourceType"] for one in matches(bundle))
    assert kinds == ["Observation"] * 3 + ["Patient"] * 2
    paged = (await world.get("Patient/p1/$everything?_count=2", rx1)).json()
    seen = {one["id"] for one in matches(paged)}
    while link := next_link(paged):
        paged = (await world.get(link, rx1)).json()
        seen |= {one["id"] for one in matches(paged)}
    assert len(seen) == 5


async def test_string_and_identifier_searches_find_patients(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    for query in (
        "family=okaf",
        "name=margaret",
        "family:exact=Okafor",
        "family:contains=kaf",
        "birthdate=1948-03-02",
    ):
        assert len(matches((await world.get(f"Patient?{query}", rx1)).json())) == 1, query
    assert matches((await world.get("Patient?family:exact=okafor", rx1)).json()) == []
